"""What is looked at before and after Snakemake runs jobs; the rest by real workflows in `test_recipe`."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from snakemake.settings.types import MaxJobsPerTimespan

from rarl.workflow import start


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
