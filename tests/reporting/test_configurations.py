"""Whether runs may be compared, by their own records: every shared setting counts, what a variant changes does not."""

from __future__ import annotations

import pytest

from rarl.reporting.configurations import differences, first_run, settings_of, value_of
from rarl.reporting.results import load_results
from tests.reporting import synthetic as made


@pytest.fixture
def two(tmp_path):
    """A function: changes of the second run's configuration -> what it says of the two."""
    made.write_project(tmp_path)
    a = made.write_run(tmp_path, "ablations/30-tasks/ra-dqn/seed-0", 0.5, made.BOARDS[:2])

    def compared(**changes):
        b = made.write_run(tmp_path, "ablations/30-tasks/a4-masking/seed-0", 0.5, made.BOARDS[:2], changes=changes)
        return differences(load_results("laptop", tmp_path), a, b)

    return compared


def test_what_a_variant_changes_is_no_difference(two):
    assert two(agent={"fusion": "add", "retrieval": {"k_traj": 3, "process": "direct"}}) == []


@pytest.mark.parametrize(
    ("changes", "key", "values"),
    [
        ({"updates": 300}, "updates", (2000, 300)),
        ({"episodes": 10}, "episodes", (None, 10)),
        ({"learning": {"discount": 0.99}}, "learning.discount", (0.9, 0.99)),
        ({"learning": {"n_step": 3}}, "learning.n_step", (1, 3)),  # the other's record does not name it: its default
        ({"evaluation": {"episodes_per_task": 5}}, "evaluation.episodes_per_task", (20, 5)),
        ({"agent": {"d_s": 8}}, "agent.d_s", (256, 8)),
        ({"online": {"actors": 4}}, "online.actors", (None, 4)),
    ],
)
def test_what_all_share_is_compared(two, changes, key, values):
    assert (key, *values) in two(**changes)


def test_a_default_that_is_written_out_is_no_difference(two):
    assert two(learning={"n_step": 1, "masking": {"weight": 0.1}}, episodes=None) == []


def test_values_and_first_runs(tmp_path):
    made.write_project(tmp_path)
    runs = [made.write_run(tmp_path, f"ablations/30-tasks/slots-8/seed-{n}", 0.5, made.BOARDS[:2]) for n in (10, 2)]
    made.write_run(tmp_path, "ablations/30-tasks/slots-8/seed-0", 0.5, made.BOARDS[:2], status="failed")
    results = load_results("laptop", tmp_path)
    assert first_run(results, "ablations", "30-tasks", "slots-8") == runs[1]
    assert first_run(results, "ablations", "30-tasks", "slots-4") is None
    assert value_of(results, runs[0], "agent.retrieval.n_f") == 8
    assert value_of(results, runs[0], "agent.retrieval.process") == "slots"  # a default
    assert value_of(results, runs[0], "agent.no.such") is None
    assert value_of(results, None, "updates") is None
    results.records[runs[0]]["config"] = {}
    assert settings_of(results, runs[0]) == {}
