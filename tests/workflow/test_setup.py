"""What is written twice says the same: pins, schemas, DVC's dependencies; and the Makefile's installation of them."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from rarl.workflow.schemas import schemas

HERE = Path(__file__).resolve().parents[2]


def requirements(path: str) -> list[Requirement]:
    """The requirements of a file, each with its continued lines; options of a requirement are left out."""
    lines = (HERE / path).read_text().replace("\\\n", " ").splitlines()
    return [Requirement(line.partition(" --")[0]) for line in lines if line and not line.startswith("#")]


def pins(path: str) -> dict[str, str]:
    """Normalised name -> version of what `path` requires on this machine."""
    found = [wanted for wanted in requirements(path) if wanted.marker is None or wanted.marker.evaluate()]
    assert all(str(wanted.specifier).startswith("==") for wanted in found), f"{path}: only exact pins"
    return {canonicalize_name(wanted.name): str(wanted.specifier).removeprefix("==") for wanted in found}


# --- pins -------------------------------------------------------------------------------------------------------------


def test_the_lock_holds_every_direct_dependency_but_torch() -> None:
    direct, lock = pins("requirements.txt"), pins("requirements.lock")
    direct.pop("torch")
    assert not {name: version for name, version in direct.items() if lock.get(name) != version}
    assert not {"torch", "rarl", "pip", "triton"} & set(lock)
    assert not [name for name in lock if name.startswith("nvidia-")]


def test_every_file_of_a_pinned_release_is_known_by_its_hash() -> None:
    text = (HERE / "requirements.lock").read_text().replace("\\\n", " ")
    for line in text.splitlines():
        if line and not line.startswith("#"):
            assert re.search(r" --hash=sha256:[0-9a-f]{64}( |$)", line), line
    # Of a release with wheels for each system, several: the lock holds on all of them.
    (numpy,) = re.findall(r"^numpy==.*$", text, re.MULTILINE)
    assert numpy.count("--hash=") > 20


def test_the_tests_run_with_the_pinned_versions() -> None:
    wanted = pins("requirements.lock") | pins("requirements.txt")
    installed = {name: importlib.metadata.version(name).partition("+")[0] for name in wanted}
    assert installed == wanted


def test_the_lock_misses_nothing() -> None:
    """Every requirement of a pinned package that holds here is pinned too, and in a version that it accepts."""
    lock = pins("requirements.lock") | pins("requirements.txt")
    wrong = []
    for name in lock:
        for text in importlib.metadata.requires(name) or []:
            needed = Requirement(text)
            if needed.marker is not None and not needed.marker.evaluate({"extra": ""}):
                continue
            version = lock.get(canonicalize_name(needed.name))
            if version is None or not needed.specifier.contains(version, prereleases=True):
                wrong.append(f"{name} needs {needed}, pinned is {version}")
    assert not [line for line in wrong if not line.startswith("torch needs")]


def test_every_direct_dependency_is_used() -> None:
    """By an import, a command of the workflow or of the Makefile, or as a part that another one loads by its name."""
    sources = [*HERE.glob("rarl/**/*.py"), *HERE.glob("tests/**/*.py"), *HERE.glob("workflow/**/*"), HERE / "Makefile"]
    text = "\n".join(
        path.read_text() for path in sources if path.suffix in (".py", ".smk", ".sh", "") and path.is_file()
    )
    imported = {
        "faiss-cpu": "faiss",
        "pyyaml": "yaml",
        "pillow": "PIL",
        "ale-py": "ale_py",
        "markdown-it-py": "markdown_it",
        "vl-convert-python": "vl_convert",
    }
    loaded_by_name = {
        "beartype",
        "dvc-s3",
        "dvc-ssh",
        "h5py",
        "mkdocs-material",
        "pymdown-extensions",
        "pytest-xdist",
        "setuptools",
    }  # by others
    unused = []
    for name in pins("requirements.txt"):
        module = imported.get(name, name.replace("-", "_"))
        used = rf"^\s*(import|from) {module}\b|import_module\(\"{module}|^\t@.*\b{name}\b|\"{name}\""
        if name not in loaded_by_name and not re.search(used, text, re.MULTILINE | re.IGNORECASE):
            unused.append(name)
    assert unused == []


def test_the_environment_of_the_rules_has_the_same_pins() -> None:
    content = yaml.safe_load((HERE / "workflow/envs/rarl.yaml").read_text())
    listed = dict(pin.split("==") for pin in content["dependencies"][-1]["pip"])
    assert {canonicalize_name(name): version for name, version in listed.items()} == pins("requirements.txt")


def test_the_environment_of_conda_brings_what_the_installer_needs() -> None:
    content = yaml.safe_load((HERE / "environment.yml").read_text())
    assert content["dependencies"] == ["python=3.11", "pip", "git", "make"]


# --- schemas ----------------------------------------------------------------------------------------------------------


def test_the_schemas_are_those_of_the_code() -> None:
    written = {path.name: json.loads(path.read_text()) for path in (HERE / "workflow/schemas").glob("*.json")}
    assert written == json.loads(json.dumps(schemas())), "run `make format`"


def validator(path: str) -> jsonschema.Draft202012Validator:
    kind = "experiment" if "experiments/" in path else "config" if path.endswith("config.yaml") else "scale"
    schema = schemas()[f"{kind}.schema.json"]
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize(
    "path", sorted({*HERE.glob("config/**/*.yaml")} - {HERE / "config/claims.yaml"}), ids=lambda path: path.stem
)
def test_editors_find_the_schema_of_a_file(path: Path) -> None:
    named = path.read_text().partition("\n")[0].removeprefix("# yaml-language-server: $schema=")
    kind = {"experiments": "experiment"}.get(path.parent.name, "config" if path.name == "config.yaml" else "scale")
    assert (path.parent / named).resolve() == HERE / f"workflow/schemas/{kind}.schema.json"


def settings(path: str) -> dict:
    return json.loads(json.dumps(yaml.safe_load((HERE / path).read_text())))  # JSON has only text as keys


@pytest.mark.parametrize("path", ["config.yaml", "smoke.yaml", "laptop.yaml", "experiments/gridroboman.yaml"])
def test_the_configuration_follows_the_schemas(path: str) -> None:
    assert [error.message for error in validator(path).iter_errors(settings(f"config/{path}"))] == []


def test_the_schemas_find_faults_deep_inside() -> None:
    experiment = settings("config/experiments/gridroboman.yaml")
    experiment["variants"]["oracle"]["settings"]["agent"]["fussion"] = "film"
    experiment["base"]["learning"]["discount"] = 2
    experiment["base"]["seed"] = 1  # set by the plan, not in a file
    faults = {error.json_path for error in validator("experiments/gridroboman.yaml").iter_errors(experiment)}
    assert faults == {"$.variants.oracle.settings.agent", "$.base.learning.discount", "$.base"}


# --- DVC --------------------------------------------------------------------------------------------------------------


def test_every_stage_of_dvc_watches_all_code_and_its_own_rules() -> None:
    """Which code concerns a job Snakemake finds out, exactly and within seconds; DVC has to start it."""
    stages = yaml.safe_load((HERE / "dvc.yaml").read_text())["stages"]
    rules = {
        "datasets": "datasets",
        "runs": "train",
        "probes": "probe",
        "index-cost": "index_cost",
        "costs": "costs",
        "report": "report",
    }
    assert set(rules) == set(stages) - {"provenance"}
    for stage, file in rules.items():
        deps = stages[stage]["deps"]
        assert {"rarl", "workflow/rules/common.smk", f"workflow/rules/{file}.smk"} <= set(deps), stage


def test_a_scale_may_leave_out_what_has_a_default() -> None:
    """DVC refuses a stage that names a key which is not in the file."""
    stages = yaml.safe_load((HERE / "dvc.yaml").read_text())["stages"]
    named = [entry for stage in stages.values() for entry in stage.get("params", [])]
    assert named
    assert all(keys is None for entry in named for keys in entry.values())


# --- jobs -------------------------------------------------------------------------------------------------------------


def test_a_planner_dataset_is_made_without_torch(tmp_path: Path) -> None:
    shutil.copytree(HERE / "config", tmp_path / "config")
    code = (
        "import sys; from rarl.cli import main;"
        "main(['datasets', 'make', '--scale', 'smoke', 'gridroboman/planner/lift-red']);"
        "sys.exit(any(name in sys.modules for name in ('torch', 'pandas', 'matplotlib')))"
    )
    environment = os.environ | {"PYTHONPATH": str(HERE)}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True, timeout=60)
    assert (tmp_path / "data/smoke/gridroboman/planner/lift-red/manifest.json").is_file()


# --- Makefile ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The files that an installation reads, and a python3 of our own choice in front of the PATH."""
    for name in ("Makefile", "requirements.txt", "requirements.lock", "pyproject.toml"):
        shutil.copy(HERE / name, tmp_path / name)
    (tmp_path / "workflow").mkdir()
    for name in ("install.sh", "uv.txt"):
        shutil.copy(HERE / "workflow" / name, tmp_path / "workflow")
    return tmp_path


def make(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "XDG_"))} | more
    return subprocess.run(
        ["make", *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def program(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_make_alone_lists_the_targets(checkout: Path) -> None:
    told = make(checkout).stdout
    for target in ("reproduce", "smoke", "test", "lint", "record", "bench"):
        assert re.search(rf"^  make {target} ", told, re.MULTILINE)
    assert not (checkout / ".venv").exists()


def test_a_home_that_is_not_there_is_no_obstacle(checkout: Path) -> None:
    """Snakemake wants a cache below it."""
    nowhere = make(checkout, "--print-data-base", HOME="/proc/nowhere").stdout
    assert re.findall(r"^XDG_CACHE_HOME := (\S+)", nowhere, re.MULTILINE) == [f"{checkout}/.snakemake/cache"]
    assert "\nXDG_CACHE_HOME" not in make(checkout, "--print-data-base", HOME=str(checkout)).stdout
    own = make(checkout, "--print-data-base", HOME="/proc/nowhere", XDG_CACHE_HOME="/my/cache").stdout
    assert re.findall(r"^XDG_CACHE_HOME :?= (\S+)", own, re.MULTILINE) == ["/my/cache"]


def test_an_old_python_is_told(checkout: Path) -> None:
    old = program(checkout / "old-python", 'case "$1" in -V) echo Python 3.9.2;; *) exit 1;; esac')
    done = make(checkout, "test", f"PYTHON={old}")
    assert done.returncode != 0
    assert "Python 3.11 or newer is needed" in done.stderr
    assert "Python 3.9.2" in done.stderr


# A python3 that keeps a diary and makes environments with itself inside; what holds `failing` fails.
FAKE = """
echo "$*" >> "{diary}"
case "$*" in
    "-V") echo "Python 3.12.0";;
    "-m venv"*) mkdir -p .venv/bin; cp "$0" .venv/bin/python;;
    *"print("*) echo torch==0;;
    *"{failing}"*) exit 1;;
esac
"""


def diary(checkout: Path, failing: str = "nothing") -> tuple[subprocess.CompletedProcess, list[str]]:
    """`make install` with the fake Python; the commands of pip and uv that were given."""
    path = checkout / "diary"
    path.unlink(missing_ok=True)
    fake = program(checkout / "fake-python", FAKE.format(diary=path, failing=failing))
    if (checkout / ".venv/bin").is_dir():
        shutil.copy(fake, checkout / ".venv/bin/python")
    done = make(checkout, "install", f"PYTHON={fake}")
    lines = path.read_text().splitlines() if path.exists() else []
    return done, [line for line in lines if "install" in line or "venv --clear" in line]


def test_installation_is_done_once_and_again_when_pins_change(checkout: Path) -> None:
    done, commands = diary(checkout)
    assert done.returncode == 0, done.stderr
    assert [
        re.sub(r"^-m (\w+) .*(--clear|-r workflow/uv.txt|-r requirements|torch==\S+|--editable).*", r"\1 \2", c)
        for c in commands
    ] == [
        "venv --clear",
        "pip -r workflow/uv.txt",  # by its hashes too
        f"uv torch=={pins('requirements.txt')['torch']}+cpu",  # so that no other package brings the build with CUDA
        "uv -r requirements",
        "uv --editable",
    ]
    assert all("--no-deps" in line for line in commands[1:])
    assert all("--require-hashes" in commands[i] for i in (1, 3))
    assert diary(checkout)[1] == []
    (stamp,) = (checkout / ".venv").glob(".complete-*")
    os.utime(stamp, (0, 0))  # git checkout gives the pins new times, but the same content
    assert diary(checkout)[1] == []
    assert stamp.stat().st_mtime > 0
    os.utime(stamp, (0, 0))
    with (checkout / "requirements.lock").open("a") as file:
        file.write("another==1\n")
    assert diary(checkout)[1][-2].endswith(" --no-deps --require-hashes -r requirements.lock")


def test_without_uv_pip_installs(checkout: Path) -> None:
    done, commands = diary(checkout, failing="workflow/uv.txt")
    assert done.returncode == 0, done.stderr
    assert "uv, the quick installer, is not to be had here" in done.stdout
    assert [re.sub(r"^-m (\w+).* install (.*)", r"\1 \2", line) for line in commands[2:]] == [
        f"pip --no-deps torch=={pins('requirements.txt')['torch']}+cpu",
        "pip --no-deps --require-hashes -r requirements.lock",
        "pip --no-deps --no-build-isolation --editable .",
    ]


def test_uv_looks_where_pip_would(checkout: Path) -> None:
    told = (
        "global.index-url='http://one'",
        "global.extra-index-url='file:///two file:///three'",
        ":env:.find-links='/four /five'",
        "global.find-links='/six'",
    )
    say = "\n".join(f'echo "{line}"' for line in told)
    program(checkout / "fake", f'case "$*" in *"config list") {say};; *" install "*) env > "{checkout}/seen";; esac')
    environment = {"PATH": f"{checkout}:{os.environ['PATH']}", "CONDA_PREFIX": str(checkout)}
    (checkout / "fake").rename(checkout / "python")
    script = checkout / "workflow/install.sh"
    subprocess.run([script], env=environment, capture_output=True, timeout=60, check=True)
    seen = dict(line.split("=", 1) for line in (checkout / "seen").read_text().splitlines() if line.startswith("UV_"))
    assert seen == {
        "UV_DEFAULT_INDEX": "http://one",
        "UV_INDEX": "file:///two file:///three",
        "UV_FIND_LINKS": "/four,/five",
    }


def test_an_interrupted_installation_is_begun_anew(checkout: Path) -> None:
    done, commands = diary(checkout, failing="--editable")
    assert done.returncode != 0
    done, commands = diary(checkout)
    assert done.returncode == 0
    assert "venv --clear" in commands[0]


def test_without_a_cpu_build_of_torch_the_common_one_is_taken(checkout: Path) -> None:
    done, commands = diary(checkout, failing="+cpu")
    assert done.returncode == 0, done.stderr
    assert "no CPU build of torch" in done.stdout
    assert commands[3].endswith(f"torch=={pins('requirements.txt')['torch']}")
    assert " -c /dev/fd/" in commands[3]  # what it brings comes in the pinned versions


def test_the_installer_fills_an_activated_environment(checkout: Path) -> None:
    """For conda. It makes nothing anew and leaves no stamp."""
    script = str(checkout / "workflow/install.sh")
    path = checkout / "diary"
    (checkout / "bin").mkdir()
    program(checkout / "bin/python", FAKE.format(diary=path, failing="nothing"))
    environment = {"PATH": f"{checkout / 'bin'}:{os.environ['PATH']}"}
    done = subprocess.run([script], env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "Activate an environment" in done.stderr) == (1, True)
    assert not path.exists() or "install" not in path.read_text()
    environment["CONDA_PREFIX"] = str(checkout)
    subprocess.run([script], env=environment, capture_output=True, text=True, timeout=60, check=True)
    commands = [line for line in path.read_text().splitlines() if "install" in line]
    assert len(commands) == 4
    assert "--require-hashes -r requirements.lock" in commands[2]
    assert not (checkout / ".venv").exists()


def test_a_moved_folder_gets_a_new_environment(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    diary(checkout)
    moved = tmp_path_factory.mktemp("moved") / "elsewhere"
    checkout.rename(moved)
    assert "venv --clear" in diary(moved)[1][0]


def test_the_tests_that_the_makefile_names_are_there() -> None:
    named = re.findall(r"\btests/[\w./]+", (HERE / "Makefile").read_text())
    assert named
    assert not [path for path in named if not (HERE / path).exists()]
