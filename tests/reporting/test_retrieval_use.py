"""The table of what is retrieved, and the line on sequences, by hand."""

from __future__ import annotations

from types import SimpleNamespace

import pandas as pd

from rarl.reporting.retrieval_use import retrieval_table, sampling_line


def results(retrieval=(), training=()):
    label = "{}: {}".format
    return SimpleNamespace(retrieval=pd.DataFrame(retrieval), training=pd.DataFrame(training), label=label)


def row(seed, update, flips, **more):
    who = {"run": f"r{seed}", "experiment": "gridroboman", "task_set": "10-tasks", "variant": "ra-dqn"}
    return who | {"update": update, "states": 64, "flips_removed": flips} | more


def test_means_over_seeds_at_the_last_evaluation():
    table = retrieval_table(results([row(0, 5, 0.9), row(0, 10, 0.2), row(1, 10, 0.3)]))
    head, _, line = table.splitlines()
    assert "States in a batch" in head
    assert "another task" not in head  # not recorded
    assert "gridroboman: ra-dqn (10-tasks)" in line
    assert "64" in line
    assert "25.0" in line


def test_nothing_retrieved_nothing_shown():
    assert retrieval_table(results()) == ""
    assert sampling_line(results()) == ""


def test_rewarded_steps_stand_beside_those_of_the_data():
    rows = [{"rewarded_steps": 0.04, "rewarded_steps_of_data": 0.05}, {"rewarded_steps": 0.06}, {}]
    assert "4.00 % have a reward" in sampling_line(results(training=rows))
