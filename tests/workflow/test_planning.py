"""What a person is told before anything runs: what stands how against the files of today, why, and about how long."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from rarl.config.scale import Run, Scale
from rarl.jobs import dataset_job, probe_job, train_job
from rarl.runs.run_folder import RunPaths
from rarl.workflow import plan
from rarl.workflow.plan import describe_plan, made_by_other_code, plan_to_tell, standing
from tests import tiny_project

OTHER = "0" * 12


@pytest.fixture
def root(tmp_path: Path) -> Path:
    tiny_project.write_config(tmp_path)
    return tmp_path


def first(scale: Scale) -> Run:
    return next(iter(scale.runs.values()))


def put(root: Path, *, checkpoint: bool = True, run: Run | None = None, **changes: Any) -> Scale:
    """A run's record as a finished run leaves it, with changes."""
    scale = Scale("tiny", root)
    run = run or first(scale)
    paths, code = RunPaths.of(run.id, "tiny", root), train_job(run).code()
    record = {
        "run": run.id,
        "status": "finished",
        "config": run.recorded(),
        "config_digest": run.digest,
        "code_digest": code.digest,
        "code": code.record,
    }
    paths.record.mkdir(parents=True)
    (paths.record / "run.json").write_text(json.dumps(record | changes))
    if checkpoint:
        paths.checkpoint.mkdir(parents=True)
        (paths.checkpoint / "checkpoint.pt").touch()
    return scale


def record_of_snakemake(root: Path, path: str, params: list[str]) -> None:
    """As Snakemake writes it beside a file."""
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).touch()
    name = base64.urlsafe_b64encode(path.encode()).decode()
    file = root / ".snakemake" / "metadata" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"params": [repr(param) for param in params]}))


def test_a_finished_run_is_counted_and_leaves_less_to_do(root: Path) -> None:
    before = standing(Scale("tiny", root))
    assert before.states["runs"] == {"not there": 7}
    assert before.runs_left() == 1
    after = standing(put(root))
    assert after.states["runs"] == {"current": 1, "not there": 6}
    assert after.runs_left() == pytest.approx(6 / 7)


@pytest.mark.parametrize(
    ("fault", "state"),
    [
        ({"checkpoint": False}, "not there"),  # a fresh clone: git holds the records, DVC the checkpoints
        ({"status": "failed"}, "failed"),
        ({"config_digest": OTHER}, "with other settings"),
        ({"code_digest": OTHER}, "by other code"),
    ],
)
def test_what_will_be_done_again_is_told(root: Path, fault: dict[str, Any], state: str) -> None:
    scale = put(root, **fault)
    found = standing(scale)
    assert found.states["runs"] == Counter([state, *["not there"] * 6])
    assert found.runs_left() == pytest.approx(6 / 7 if state == "failed" else 1)
    told = "7 not there" if state == "not there" else f"1 {state}, 6 not there"
    assert f"runs      7 ({told})" in describe_plan(scale)
    # A report shows what is recorded, wherever it was made.
    assert made_by_other_code(scale) == ({first(scale).id} if OTHER in fault.values() else set())


def test_it_is_told_which_code_changed(root: Path) -> None:
    code = train_job(first(Scale("tiny", root))).code().record
    older = {
        "modules": {**code["modules"], "rarl.nn.retrieval": "00000000", "rarl.gone": "11111111"},
        "packages": {**code["packages"], "torch": "1.0.0"},
    }
    scale = put(root, code_digest=OTHER, code=older)
    torch = code["packages"]["torch"]
    assert standing(scale).why == Counter({"rarl.nn.retrieval": 1, "rarl.gone": 1, f"torch 1.0.0 -> {torch}": 1})
    (line,) = (line for line in describe_plan(scale).splitlines() if line.startswith("Changed since"))
    assert line == (
        "Changed since, with the number of runs that it concerns: "
        f"rarl.gone (1), rarl.nn.retrieval (1), torch 1.0.0 -> {torch} (1)."
    )


def test_a_record_without_the_names_of_modules_is_of_other_code(root: Path) -> None:
    scale = put(root, code_digest=OTHER, code=None)
    assert standing(scale).why == Counter({"code that its record does not name": 1})


@pytest.mark.parametrize("text", ["[]", "{", "{}", '{"status": "finished", "code": []}'])
def test_a_damaged_record_is_no_obstacle(root: Path, text: str) -> None:
    scale = put(root)
    (RunPaths.of(first(scale).id, "tiny", root).record / "run.json").write_text(text)
    assert standing(scale).states["runs"]["current"] == 0


def test_it_is_told_which_settings_changed(root: Path) -> None:
    before = first(Scale("tiny", root))
    settings = before.settings.model_copy(update={"updates": 11, "log_every": 7})
    other = before.with_settings(settings)
    scale = put(root, config_digest=other.digest, config=other.recorded())
    assert standing(scale).why == Counter({"setting updates": 1, "setting log_every": 1})


def test_a_digest_that_is_made_of_something_else_is_told(root: Path) -> None:
    scale = put(root, config_digest=OTHER)
    assert standing(scale).why == Counter({"what is derived from settings": 1})


def test_many_reasons_are_counted(root: Path) -> None:
    code = train_job(first(Scale("tiny", root))).code().record
    older = {"modules": dict.fromkeys(code["modules"], "00000000"), "packages": code["packages"]}
    text = describe_plan(put(root, code_digest=OTHER, code=older))
    assert f", and {len(code['modules']) - 8} more." in text


def test_datasets_and_probes_are_known_by_snakemakes_records(root: Path) -> None:
    scale = Scale("tiny", root)
    run = scale.find_run(scale.probes()[0])
    put(root, run=run)
    datasets = list(scale.datasets.values())[:4]
    made = [
        (datasets[0], datasets[0].digest, dataset_job(datasets[0]).code().digest),
        (datasets[1], datasets[1].digest, OTHER),
        (datasets[2], OTHER, dataset_job(datasets[2]).code().digest),
    ]
    for dataset, settings, code in made:
        record_of_snakemake(root, f"data/tiny/{dataset.id}/manifest.json", [settings, code, "tiny"])
    unknown = root / "data" / "tiny" / datasets[3].id
    unknown.mkdir()
    (unknown / "manifest.json").touch()  # made by hand: Snakemake leaves it
    left = len(scale.datasets) - 4
    probe = f"results/tiny/probes/{run.id}/attention.csv"
    record_of_snakemake(root, probe, [run.digest, probe_job(run).code().digest])
    found = standing(scale)
    assert found.states["datasets"] == {
        "current": 2, "by other code": 1, "with other settings": 1, "not there": left,
    }  # fmt: skip
    assert found.states["probes"] == {"current": 1}
    record_of_snakemake(root, probe, [run.digest, OTHER])
    assert standing(scale).states["probes"] == {"by other code": 1}


def test_a_probe_follows_its_run(root: Path) -> None:
    scale = Scale("tiny", root)
    run = scale.find_run(scale.probes()[0])
    put(root, run=run, code_digest=OTHER)
    record_of_snakemake(root, f"results/tiny/probes/{run.id}/attention.csv", [run.digest, probe_job(run).code().digest])
    assert standing(scale).states["probes"] == {"to follow": 1}


def test_nothing_is_said_if_nothing_is_left(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    current = plan.Standing({"runs": Counter(current=7, failed=1)})
    monkeypatch.setattr(plan, "standing", lambda scale: current)
    scale = Scale("tiny", root)
    assert plan_to_tell(scale) is None
    assert "Nothing is left to be made." in describe_plan(scale)


def test_settings_by_which_nothing_is_learned_are_told(root: Path) -> None:
    file = root / "config" / "tiny.yaml"
    assert "Warning" not in describe_plan(Scale("tiny", root))
    file.write_text(re.sub("updates: (12|6)$", "updates: 4", file.read_text(), flags=re.MULTILINE))
    said = describe_plan(Scale("tiny", root))
    assert re.search(
        r"Warning: gridroboman/10-tasks/.* and \d+ more: learning.target_period_updates = 5, updates = 4", said
    )


def test_the_time_left_follows_the_speed_of_a_core(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan.os, "cpu_count", lambda: 2)
    monkeypatch.setattr(plan, "_reference_work", lambda: 3 * plan._REFERENCE_SECONDS)
    said = describe_plan(put(root))
    assert "About 7.7 s for the runs that are left" in said  # 0.1 minutes, 6 of 7 runs
    assert "(2 CPU cores, no GPU; a core takes 3.0 times the reference's)" in said


def test_the_time_left_is_that_of_the_places_on_gpus(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = root / "config" / "tiny.yaml"
    file.write_text(file.read_text() + "\nresources: {gpu: true, jobs_per_gpu: 3}\n")
    monkeypatch.setattr(plan.os, "cpu_count", lambda: 16)
    monkeypatch.setattr(plan, "gpus", lambda: 1)
    monkeypatch.setattr(plan, "_reference_work", lambda: plan._REFERENCE_SECONDS)
    said = describe_plan(put(root))
    assert "1 GPU, 3 jobs on each" in said
    assert "About 1.7 s for the runs that are left" in said  # 0.1 minutes, 6 of 7 runs, three at a time


def test_no_time_is_told_where_nobody_has_measured_it(root: Path) -> None:
    file = root / "config" / "tiny.yaml"
    file.write_text("".join(line for line in file.open() if "about_core_minutes" not in line))
    assert "About" not in describe_plan(Scale("tiny", root))


def test_the_speed_of_a_core_is_known_soon() -> None:
    started = time.process_time()
    found = plan._reference_work()
    assert 0 < 3 * found <= time.process_time() - started < 3


def test_dvc_which_starts_snakemake_for_every_stage_is_told_once(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One process called dvc starts several others, as `dvc repro` does."""
    monkeypatch.delenv("DVC_STAGE", raising=False)
    dvc = tmp_path / "dvc"
    stage = (
        "from rarl.workflow.plan import plan_to_tell; from rarl.config.scale import Scale; "
        "print('told' if plan_to_tell(Scale('tiny')) else 'silent')"
    )
    dvc.write_text(
        "import os, subprocess, sys\n"
        "for stage in ('datasets', 'runs'):\n"
        f"    subprocess.run(['sh', '-c', '\"$0\" -c \"$1\"; true', sys.executable, {stage!r}], "
        "env={**os.environ, 'DVC_STAGE': stage}, check=True)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(plan.__file__).parents[2])}

    def said() -> list[str]:
        command = [sys.executable, str(dvc)]
        return subprocess.run(
            command, cwd=root, env=environment, stdout=subprocess.PIPE, text=True, check=True
        ).stdout.split()

    assert said() == ["told", "silent"]
    assert said() == ["told", "silent"]  # the next time again
    assert [plan_to_tell(Scale("tiny", root)) is None for _ in range(2)] == [False, False]


def test_committed_records_have_the_settings_of_today() -> None:
    """A change of what is in a digest would make all of them stale unnoticed."""
    root = Path(__file__).resolve().parents[2]
    scale, reasons = Scale("laptop", root), Counter[str]()
    states = Counter(plan._state_of_record(scale, run, reasons) for run in scale.wanted().values())
    assert states[plan.CURRENT] + states[plan.OTHER_CODE] == states.total(), [r for r in reasons if "setting" in r]
