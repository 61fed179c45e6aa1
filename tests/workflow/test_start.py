"""What is looked at before and after Snakemake runs jobs; the rest by real workflows in `test_recipe`."""

from __future__ import annotations

import shutil
import subprocess
from types import SimpleNamespace

import pytest
from snakemake.settings.types import Batch, DAGSettings, MaxJobsPerTimespan

from rarl.errors import RarlError
from rarl.workflow import start
from rarl.workflow.records import file_of
from tests.workflow.test_workflow_records import record as made

LIMIT = MaxJobsPerTimespan.parse_choice("100/1s")  # Snakemake's own


def guarded(root, execute, limit=LIMIT, *, dry=False, **dag):
    """Run a workflow that only calls `execute` with its settings of scheduling."""
    workflow = SimpleNamespace(
        is_main_process=True,
        scheduling_settings=SimpleNamespace(max_jobs_per_timespan=limit),
        dag_settings=DAGSettings(**dag),
        execute=lambda plugin: execute(workflow.scheduling_settings),
    )
    start.guard(workflow, SimpleNamespace(name="small", root=root))
    workflow.execute(SimpleNamespace(common_settings=SimpleNamespace(dryrun_exec=dry)))


@pytest.mark.parametrize("dry", [False, True])
def test_jobs_start_without_a_limit_per_time_span(tmp_path, monkeypatch, dry):
    """But for one that the user sets."""
    monkeypatch.setattr(start.verify, "check", lambda scale, planned: None)
    found, own = [], MaxJobsPerTimespan.parse_choice("1/30s")
    for limit in (LIMIT, own):
        guarded(tmp_path, lambda settings: found.append(settings.max_jobs_per_timespan), limit, dry=dry)
    assert found == [LIMIT if dry else None, own]


@pytest.mark.parametrize(
    ("settings", "everything"),
    [
        ({}, True),
        ({"targets": {"all", "site"}}, True),
        ({"targets": {"train"}}, False),
        ({"targets": {"all"}, "until": {"train_run"}}, False),
        ({"omit_from": {"train_run"}}, False),
        ({"batch": Batch("all", 1, 2)}, False),
    ],
)
def test_only_after_all_of_it_everything_must_be_as_planned(tmp_path, monkeypatch, settings, everything):
    asked = []
    monkeypatch.setattr(start.verify, "check", lambda scale, planned: asked.append(planned))
    guarded(tmp_path, lambda _: None, **settings)
    assert asked == [False, everything]


def test_what_was_made_before_an_interruption_is_in_the_records(tmp_path, monkeypatch):
    """Else the old records would be put back beside new files, which would pass for current."""
    monkeypatch.setattr(start.verify, "check", lambda scale, planned: None)
    made(tmp_path, "results/small/runs/a/run.json", params=["'old'"])
    guarded(tmp_path, lambda _: None)
    assert "'old'" in file_of("small", tmp_path).read_text()

    def interrupted(_):
        made(tmp_path, "results/small/runs/a/run.json", params=["'new'"])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        guarded(tmp_path, interrupted)
    assert "'new'" in file_of("small", tmp_path).read_text()


def test_a_scale_of_which_nothing_was_made_is_not_recorded(tmp_path, monkeypatch):
    monkeypatch.setattr(start.verify, "check", lambda scale: None)
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    scale = SimpleNamespace(name="small", root=tmp_path)
    made(tmp_path, "data/small/a/manifest.json").touch()
    (tmp_path / "data/small/a/manifest.json").unlink()
    with pytest.raises(RarlError, match=r"scale small: .*nothing"):
        start.record(scale)
    assert not file_of("small", tmp_path).exists()
    assert not list(tmp_path.glob(".snakemake/*.sha256"))
    made(tmp_path, "data/small/a/manifest.json", params=["'abc'"])
    text = start.record(scale).read_text()
    assert "abc" in text
    shutil.rmtree(tmp_path / ".snakemake")  # as in a clone: what is recorded stays so
    assert start.record(scale).read_text() == text
