"""The check of a GPU, on a CPU: it compares, measures, and writes everything down."""

from __future__ import annotations

import csv
import json

import pytest
import torch

from rarl.benchmarks import gpu_check
from rarl.config.scale import Scale
from rarl.errors import RarlError
from tests import tiny_project

SMALL = {
    "costs": {"seconds_per_variant": 0.02},
    "experiments": {"gridroboman": {"task_sets": {10: {"variants": ["dqn", "ra-dqn"], "probes": []}}}},
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    tiny_project.write_config(tmp_path, SMALL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(gpu_check, "STEPS", 3)
    return tmp_path / "found" / "here"


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_a_cpu_agrees_with_itself_and_is_measured(folder):
    with pytest.raises(SystemExit) as end:
        gpu_check.main([str(folder), "--scale", "tiny", "--device", "cpu"])
    assert end.value.code == 0
    assert [tuple(row.values()) for row in rows(folder / "equality.csv")] == [
        ("gridroboman", variant, "cpu", graph, "3", "0", "0")
        for variant in ("dqn", "ra-dqn") for graph in ("off", "auto")
    ]  # fmt: skip
    for place in (folder, folder / "captured"):
        assert [row["variant"] for row in rows(place / "costs.csv")] == ["dqn", "ra-dqn"]
        assert rows(place / "environment-speed.csv")
    assert "torch" in json.loads((folder / "machine.json").read_text())["versions"]


def test_losses_that_differ_are_told_by_the_exit_code(folder, monkeypatch):
    real, calls = gpu_check.losses, []

    def losses(*arguments):
        calls.append(arguments)
        found = real(*arguments)
        return found if len(calls) % 3 else [*found[:-1], 1.02 * found[-1]]

    monkeypatch.setattr(gpu_check, "losses", losses)
    monkeypatch.setattr(gpu_check, "measure_costs", lambda *_, changes: None)
    with pytest.raises(SystemExit) as end:
        gpu_check.main([str(folder), "--scale", "tiny", "--device", "cpu"])
    assert end.value.code != 0
    plain, captured, *_ = rows(folder / "equality.csv")
    assert float(plain["largest_difference"]) == 0
    assert (float(captured["first_difference"]), float(captured["largest_difference"])) == (
        0,
        pytest.approx(0.0196, rel=0.01),
    )


def test_an_agent_without_a_loss_is_left_out(folder, tiny_root, monkeypatch, caplog):
    datasets, short = tiny_project.datasets_of(tiny_root), {"updates": 2}
    assert gpu_check.losses(tiny_project.run_of(tiny_root, "mfec"), [], "cpu", 3) == []
    assert len(gpu_check.losses(tiny_project.run_of(tiny_root, "dqn", changes=short), datasets, "cpu", 3)) == 2
    variants = {"variants": ["dqn", "mfec"], "probes": []}
    tiny_project.write_config(folder.parents[1], {"experiments": {"gridroboman": {"task_sets": {10: variants}}}})
    monkeypatch.setattr(gpu_check, "open_datasets", lambda scale, run: datasets)
    found = gpu_check.compare(Scale("tiny"), "cpu")
    assert [row[:5] for row in found] == [("gridroboman", "dqn", "cpu", graph, 3) for graph in ("off", "auto")]


def test_what_is_in_the_way_is_told_and_settings_are_put_back(folder, monkeypatch, capsys):
    def breaks(*_):
        raise RarlError("out of order")

    before = torch.backends.cudnn.allow_tf32
    monkeypatch.setattr(gpu_check, "make_dataset", lambda *_: None)
    monkeypatch.setattr(gpu_check, "compare", breaks)
    with pytest.raises(SystemExit, match="out of order"):
        gpu_check.main([str(folder), "--scale", "tiny", "--device", "cpu"])
    assert torch.backends.cudnn.allow_tf32 is before
    folder.with_name("file").write_text("")
    for place in (folder.with_name("file"), folder.with_name("file") / "below"):
        with pytest.raises(SystemExit, match=f"{place}: cannot be written"):
            gpu_check.main([str(place), "--scale", "tiny", "--device", "cpu"])


def test_the_reference_has_base_and_retrieval_agent_of_each_environment():
    planned = Scale("reference").cost_runs()
    assert {name: [run.retrieves for run in runs.values()] for name, runs in planned.items()} == {
        name: [False, True] for name in ("gridroboman", "babyai", "atari")
    }
