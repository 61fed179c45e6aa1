"""What is looked at before and after Snakemake runs jobs; the rest by real workflows in `test_recipe`."""

from __future__ import annotations

import shutil
import subprocess
from types import SimpleNamespace

import pytest
from snakemake.settings.types import MaxJobsPerTimespan

from rarl.errors import RarlError
from rarl.workflow import start
from rarl.workflow.records import file_of
from tests.workflow.test_workflow_records import record as made


@pytest.mark.parametrize("dry", [False, True])
def test_jobs_start_without_a_limit_per_time_span(tmp_path, monkeypatch, dry):
    monkeypatch.setattr(start.verify, "check", lambda scale, planned: None)
    limit = MaxJobsPerTimespan.parse_choice("100/1s")
    found = []
    workflow = SimpleNamespace(
        is_main_process=True,
        scheduling_settings=SimpleNamespace(max_jobs_per_timespan=limit),
        dag_settings=SimpleNamespace(targets={"train"}),
        execute=lambda plugin: found.append(workflow.scheduling_settings.max_jobs_per_timespan),
    )
    start.guard(workflow, SimpleNamespace(name="tiny", root=tmp_path))
    workflow.execute(SimpleNamespace(common_settings=SimpleNamespace(dryrun_exec=dry)))
    assert found == [limit if dry else None]


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
