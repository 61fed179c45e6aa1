"""What is written twice says the same: pins, schemas, DVC's dependencies; and the Makefile's installation of them."""

from __future__ import annotations

import base64
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

from rarl.schemas import schemas

HERE = Path(__file__).resolve().parents[2]


def pins(path: str) -> dict[str, str]:
    lines = [line.strip() for line in (HERE / path).read_text().splitlines()]
    found = [line.partition("==") for line in lines if line and not line.startswith("#")]
    assert all(version for _, _, version in found), f"{path}: only exact pins"
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, _, version in found}


# --- pins -------------------------------------------------------------------------------------------------------------


def test_the_lock_holds_every_direct_dependency_but_torch() -> None:
    direct, lock = pins("requirements.txt"), pins("requirements.lock")
    torch = direct.pop("torch")
    assert not {name: version for name, version in direct.items() if lock.get(name) != version}
    assert not {"torch", "rarl", "pip"} & set(lock)
    environment = yaml.safe_load((HERE / "environment.yml").read_text())
    assert environment["dependencies"][-1]["pip"] == ["-r requirements.lock", f"torch=={torch}"]


def test_the_tests_run_with_the_pinned_versions() -> None:
    wanted = pins("requirements.lock") | pins("requirements.txt")
    installed = {name: importlib.metadata.version(name).partition("+")[0] for name in wanted}
    assert installed == wanted


def test_the_lock_misses_nothing() -> None:
    """Every requirement of a pinned package that holds here is pinned too."""
    lock = pins("requirements.lock") | {"torch": "", "pip": ""}
    missing = set()
    for name in lock:
        for requirement in importlib.metadata.requires(name) or []:
            needed, _, marker = requirement.partition(";")
            needed = re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", needed).group()).lower()
            if not marker and needed not in lock:
                missing.add(f"{name} needs {needed}")
    assert not missing


def test_the_environment_of_the_rules_has_the_same_pins() -> None:
    content = yaml.safe_load((HERE / "workflow/envs/rarl.yaml").read_text())
    listed = dict(pin.split("==") for pin in content["dependencies"][-1]["pip"])
    assert {name.lower().replace("_", "-"): version for name, version in listed.items()} == pins("requirements.txt")


# --- schemas ----------------------------------------------------------------------------------------------------------


def test_the_schemas_are_those_of_the_code() -> None:
    written = {path.name: json.loads(path.read_text()) for path in (HERE / "workflow/schemas").glob("*.json")}
    assert written == json.loads(json.dumps(schemas())), "run `make format`"


def validator(path: str) -> jsonschema.Draft202012Validator:
    kind = "experiment" if "experiments/" in path else "config" if path.endswith("config.yaml") else "scale"
    schema = schemas()[f"{kind}.schema.json"]
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def settings(path: str) -> dict:
    return json.loads(json.dumps(yaml.safe_load((HERE / path).read_text())))  # JSON has only text as keys


@pytest.mark.parametrize("path", ["config.yaml", "smoke.yaml", "laptop.yaml", "experiments/gridroboman.yaml"])
def test_the_configuration_follows_the_schemas(path: str) -> None:
    assert [error.message for error in validator(path).iter_errors(settings(f"config/{path}"))] == []


def test_the_schemas_find_faults_deep_inside() -> None:
    experiment = settings("config/experiments/gridroboman.yaml")
    experiment["variants"]["oracle"]["agent"]["fussion"] = "film"
    experiment["base"]["learning"]["discount"] = 2
    experiment["base"]["seed"] = 1  # set by the plan, not in a file
    faults = {error.json_path for error in validator("experiments/gridroboman.yaml").iter_errors(experiment)}
    assert faults == {"$.variants.oracle.agent", "$.base.learning.discount", "$.base"}


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


def test_dvc_ignores_the_records_of_what_is_nobodys_result() -> None:
    patterns = re.findall(r"/\.snakemake/metadata/\*(\w+)\*", (HERE / ".dvcignore").read_text())
    starts = [base64.b64decode(pattern).decode() for pattern in patterns]
    assert starts == ["data/smok", "results/smok", "reports/smok", "scratc"]


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
    shutil.copy(HERE / "workflow/install.sh", tmp_path / "workflow")
    return tmp_path


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
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


def test_an_old_python_is_told(checkout: Path) -> None:
    old = program(checkout / "old-python", 'case "$1" in -V) echo Python 3.9.2;; *) exit 1;; esac')
    done = make(checkout, "test", f"PYTHON={old}")
    assert done.returncode != 0
    assert "Python 3.11 or newer is needed" in done.stderr
    assert "Python 3.9.2" in done.stderr


# A python3 that keeps a diary and makes environments with itself inside; `pip install` fails where the diary says so.
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
    """`make install` with the fake Python; the pip commands that were given."""
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
    assert [re.sub(r".* (venv --clear|-r|torch==[\w.+]+|--editable).*", r"\1", line) for line in commands] == [
        "venv --clear",
        "-r",
        f"torch=={pins('requirements.txt')['torch']}+cpu",
        "--editable",
    ]
    assert diary(checkout)[1] == []
    (stamp,) = (checkout / ".venv").glob(".complete-*")
    os.utime(stamp, (0, 0))  # git checkout gives the pins new times, but the same content
    assert diary(checkout)[1] == []
    assert stamp.stat().st_mtime > 0
    os.utime(stamp, (0, 0))
    with (checkout / "requirements.lock").open("a") as file:
        file.write("another==1\n")
    assert diary(checkout)[1][0].endswith("install -r requirements.lock")


def test_an_interrupted_installation_is_begun_anew(checkout: Path) -> None:
    done, commands = diary(checkout, failing="--editable")
    assert done.returncode != 0
    done, commands = diary(checkout)
    assert done.returncode == 0
    assert "venv --clear" in commands[0]


def test_without_a_cpu_build_of_torch_the_common_one_is_taken(checkout: Path) -> None:
    done, commands = diary(checkout, failing="+cpu")
    assert done.returncode == 0, done.stderr
    assert commands[-2].endswith(f"torch=={pins('requirements.txt')['torch']}")


def test_a_moved_folder_gets_a_new_environment(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    diary(checkout)
    moved = tmp_path_factory.mktemp("moved") / "elsewhere"
    checkout.rename(moved)
    assert "venv --clear" in diary(moved)[1][0]
