"""What DVC and git keep: nothing damaged, complete in a clone, of each scale, and brought back one by one."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest
import yaml

from tests.workflow.workflow_project import DQN, Project, jobs_in

pytestmark = pytest.mark.workflow

DATA = Path("data/tiny/gridroboman/planner")
CHECKPOINT = Path("results/tiny/checkpoints") / DQN / "checkpoint.pt"


def kept(project: Project) -> dict[str, bytes]:
    """Everything in datasets and checkpoints."""
    return {
        str(path.relative_to(project.folder)): path.read_bytes()
        for place in ("data/tiny", "results/tiny/checkpoints")
        for path in (project.folder / place).rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }


def cached(project: Project) -> set[Path]:
    return set((project.folder / ".dvc/cache/files").rglob("*"))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def damage_all(project: Project) -> list[Path]:
    """Damage files of every kind in every way; their paths."""
    data, checkpoint = project.folder / DATA, project.folder / CHECKPOINT
    flip(data / "touch-red/rewards.npy")
    cut(data / "touch-blue/actions.npy")
    cut(data / "touch-green/manifest.json")
    shutil.rmtree(data / "lift-red")
    shutil.copytree(data / "lift-green", data / "lift-red")
    flip(checkpoint)
    other = checkpoint.parents[2] / "ra-dqn-hidden/seed-0"
    for path in checkpoint.parent.iterdir():
        shutil.copy(path, other / path.name)
    return [
        DATA / "touch-red/rewards.npy",
        DATA / "touch-blue/actions.npy",
        DATA / "touch-green/manifest.json",
        DATA / "lift-red/manifest.json",
        CHECKPOINT,
        CHECKPOINT.parents[2] / "ra-dqn-hidden/seed-0/checkpoint.pt",
    ]


def test_what_is_damaged_never_becomes_the_record(project: Project) -> None:
    before, lock, cache = kept(project), (project.folder / "dvc.lock").read_bytes(), cached(project)
    paths = damage_all(project)
    for told in (
        project.snakemake("all", expect=1),
        project.snakemake("-n", expect=1),
        project.run("dvc", "repro", expect=255),
        project.make("record", expect=2),
    ):
        assert [path for path in paths if f"{path}: " not in told] == []
        assert "`rarl restore --scale tiny`" in told
        assert "Traceback" not in told
        assert "Nothing to be done" not in told
    assert (project.folder / "dvc.lock").read_bytes() == lock
    assert cached(project) == cache

    told = project.run("python", "-m", "rarl", "restore")
    assert [path for path in paths if f"{path}: restored" not in told] == []
    assert kept(project) == before
    assert project.planned() == {}
    assert "up to date" in project.run("dvc", "status")
    project.run("python", "-m", "rarl", "verify", "--full")


@pytest.mark.slow
def test_a_file_whose_times_were_put_back_is_looked_at_again(project: Project) -> None:
    path = project.folder / DATA / "lift-red/rewards.npy"
    project.run("python", "-m", "rarl", "verify")
    before = path.stat()
    flip(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert "rewards.npy" in project.run("python", "-m", "rarl", "verify", expect=2)


@pytest.mark.slow
def test_what_dvc_has_lost_costs_no_intact_file(project: Project) -> None:
    """The advice, followed where no copy is left: DVC's own command deletes the whole folder then."""
    before = kept(project)
    path = DATA / "lift-red/rewards.npy"
    flip(project.folder / path)
    listing = next(path for path in cached(project) if path.suffix == ".dir" and "rewards.npy" in path.read_text())
    entries = {entry["relpath"]: entry["md5"] for entry in json.loads(listing.read_text())}
    checksum = entries[path.relative_to("data/tiny").as_posix()]
    (project.folder / ".dvc/cache/files/md5" / checksum[:2] / checksum[2:]).unlink()
    nowhere = {"name": "store", "url": str(project.store / "nowhere")}
    project.run("dvc", "remote", "modify", "--local", nowhere["name"], "url", nowhere["url"])

    told = project.run("python", "-m", "rarl", "restore", expect=2)
    assert f"{path}: neither DVC's cache nor a remote has it" in told
    assert {name for name, content in kept(project).items() if content != before[name]} == {str(path)}
    assert not list(project.folder.glob("data/**/.restore*"))
    # What it says then: the file is removed, and made again, and nothing else is.
    (project.folder / path).unlink()
    assert jobs_in(project.snakemake("all")) == {"make_gridroboman_planner_dataset": 1}
    assert kept(project) == before
    project.run("dvc", "commit", "--force")
    assert "up to date" in project.run("dvc", "status")

    # A damaged object in the cache is not taken for the file.
    stored = project.folder / ".dvc/cache/files/md5" / checksum[:2] / checksum[2:]
    stored.chmod(0o644)
    flip(stored)
    flip(project.folder / path)
    assert f"{path}: what DVC keeps of it is damaged, too" in project.run("python", "-m", "rarl", "restore", expect=2)
    assert {name for name, content in kept(project).items() if content != before[name]} == {str(path)}
    # The remote has it.
    stored.unlink()
    project.run("dvc", "remote", "modify", "--local", "store", "url", str(project.store / "remote"))
    assert f"{path}: restored" in project.run("python", "-m", "rarl", "restore", str(path.parent))
    assert kept(project) == before


def test_restoring_names_what_it_does_not_know(project: Project) -> None:
    assert "nothing is missing or damaged" in project.run("python", "-m", "rarl", "restore")
    assert "data/tiny/nothing: DVC has no record" in project.run(
        "python", "-m", "rarl", "restore", "data/tiny/nothing", expect=2
    )
    assert "no data of scale smoke" in project.run("python", "-m", "rarl", "restore", "--scale", "smoke", expect=2)
    before = kept(project)
    shutil.rmtree(project.folder / DATA / "lift-red")
    (project.folder / CHECKPOINT).unlink()
    assert CHECKPOINT.name in project.run("python", "-m", "rarl", "restore", str(CHECKPOINT))
    assert not (project.folder / DATA / "lift-red").exists()
    project.run("python", "-m", "rarl", "restore")
    assert kept(project) == before


@pytest.mark.slow
def test_a_dataset_of_other_settings_is_made_again_and_never_recorded(project: Project) -> None:
    """A dataset that fits itself but not the settings is due after a change of these, and told if put there by hand."""

    def other_seed(settings: dict) -> None:
        settings["datasets"]["gridroboman"][0]["seed"] = 1

    project.scale(other_seed)
    assert project.planned("datasets") == {"make_gridroboman_planner_dataset": 10}
    manifest = DATA / "lift-red/manifest.json"
    project.snakemake(str(manifest))
    project.run("git", "checkout", "--quiet", "--", ".")
    other = project.folder.with_name("other")
    (project.folder / manifest.parent).rename(other)
    project.run("python", "-m", "rarl", "restore")
    (project.folder / "results/tiny/provenance.json").unlink()
    project.run("dvc", "checkout", "--quiet", "results/tiny/provenance.json")
    assert project.planned() == {}
    (project.folder / manifest.parent).rename(other.with_name("recorded"))
    other.rename(project.folder / manifest.parent)
    told = project.make("record", expect=2)
    assert str(manifest) in told
    assert "seed 1 (planned: 0)" in told


@pytest.mark.slow
def test_the_records_of_scales_live_beside_each_other(project: Project, tmp_path: Path) -> None:
    settings = yaml.safe_load((project.folder / "config/tiny.yaml").read_text())
    settings["datasets"]["gridroboman"][0]["seed"] = 5
    settings["experiments"]["gridroboman"]["task_sets"][10]["variants"] = ["ra-dqn-hidden"]
    (project.folder / "config/another.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    (project.folder / "config/config.yaml").write_text("scale: another\n")
    first = yaml.safe_load((project.folder / "dvc.lock").read_text())["stages"]
    told = project.run("dvc", "repro")
    assert jobs_in(told)["train_run"] == 1
    both = yaml.safe_load((project.folder / "dvc.lock").read_text())["stages"]
    assert {name: both[name] for name in first} == first
    assert {name.replace("@tiny", "@another") for name in first} | set(first) == set(both)
    assert "up to date" in project.run("dvc", "status")
    assert project.planned() == {}
    project.run("dvc", "push")
    project.commit("another scale")

    (project.folder / "config/config.yaml").write_text("scale: tiny\n")
    assert project.planned() == {}
    assert "up to date" in project.run("dvc", "status")
    assert "Recorded." in project.make("record")
    assert yaml.safe_load((project.folder / "dvc.lock").read_text())["stages"] == both

    clone = project.clone(tmp_path / "clone")
    for scale, data in (("tiny", {"tiny"}), ("another", {"another", "tiny"}), ("tiny", {"another", "tiny"})):
        (clone.folder / "config/config.yaml").write_text(f"scale: {scale}\n")
        clone.run("dvc", "pull", "dvc.yaml")  # a bare `dvc pull` would take away what is recorded of another scale
        assert {path.name for path in (clone.folder / "data").iterdir() if path.is_dir()} == data
        assert clone.planned() == {}
    assert "up to date" in clone.run("dvc", "status")
    assert clone.stages() == []


def test_what_a_clone_would_not_get_is_not_recorded(untouched: Project) -> None:
    (untouched.folder / "config/config.yaml").write_text("scale: smoke\n")
    for told in (untouched.make("record", expect=2), untouched.run("dvc", "repro", expect=255)):
        assert "git ignores results/smoke/" in told
        assert "scale smoke is nobody's result" in told
        assert "Job stats" not in told  # before anything runs
    assert (
        "@smoke" not in (untouched.folder / "dvc.lock").read_text()
        if (untouched.folder / "dvc.lock").exists()
        else True
    )
    shutil.rmtree(untouched.folder / ".git")
    (untouched.folder / "config/config.yaml").write_text("scale: tiny\n")
    told = untouched.make("record", expect=2)
    assert "not a git repository" in told
    assert "Job stats" not in told


def readme_commands(heading: str) -> list[str]:
    """The commands of the console blocks that follow a heading of the README; comments and prompts are left out."""
    text = (Path(__file__).resolve().parents[2] / "README.md").read_text()
    section = text[text.index(heading) :]
    blocks = re.findall(r"```console\n(.*?)```", section, re.DOTALL)[:2]
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("$ ")]
    return [re.sub(r"\s{2,}#.*", "", line.removeprefix("$ ")) for line in lines]


def follow_the_readme(recorded: Project, folder: Path, url: str, *more: str, **environment: str) -> None:
    """Do what README says about a place for data; in the clone nothing is left to do."""
    project = Project(folder / "project", folder)
    shutil.copytree(recorded.folder, project.folder, symlinks=True)
    (project.folder / ".dvc/config.local").unlink()
    project.environment |= environment
    bare = folder / "bare.git"
    project.run("git", "clone", "--quiet", "--bare", str(project.folder), str(bare))
    project.run("git", "remote", "set-url", "origin", str(bare))

    here = [command for command in readme_commands("**A place for data.**") if "clone" not in command]
    there = here[here.index("dvc pull") :]
    here = here[: here.index("dvc pull")]
    assert [command.split()[:2] for command in here[:2]] == [["dvc", "remote"], ["make", "record"]]
    for command in here:
        command = command.replace("s3://bucket/rarl", url).replace(
            "make record", f"make record STAMP={folder / 'stamp'}"
        )
        (folder / "stamp").touch()
        project.run("bash", "-euc", command)
        if "remote add" in command:
            for line in more:
                project.run("bash", "-euc", line)
    assert project.run("git", "status", "--porcelain") == ""

    clone = Project(folder / "clone", folder)
    clone.environment = project.environment
    project.run("git", "clone", "--quiet", str(bare), str(clone.folder))
    for command in there:
        clone.run("bash", "-euc", command)
    assert clone.planned() == {}
    assert clone.stages() == []
    assert "up to date" in clone.run("dvc", "status")
    assert kept(clone) == kept(project)


@pytest.mark.slow
def test_a_local_folder_keeps_the_data(recorded: Project, tmp_path: Path) -> None:
    follow_the_readme(recorded, tmp_path, str(tmp_path / "remote"))
