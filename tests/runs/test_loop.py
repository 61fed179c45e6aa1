"""The loop, within one process: products, resuming, refusals, failures."""

from __future__ import annotations

import csv
import json
import logging
import math
import os
import random
import resource
from pathlib import Path

import numpy as np
import pytest
import torch

from rarl.errors import RarlError, RunFailedError
from rarl.runs import checkpoints, loop
from rarl.runs.loop import Budget, LoopSettings
from rarl.runs.run_folder import RunPaths
from tests.runs import toy_learner
from tests.runs.toy_learner import RUN, ToyLearner, train_toy


@pytest.fixture(autouse=True, scope="module")
def no_fsync():
    """Nothing here cuts the power, and 60 checkpoints a run would wait for the disk most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def paths(root) -> RunPaths:
    return RunPaths.of(RUN, "smoke", root)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """An undisturbed run of 60 updates, in a folder with spaces and umlauts: its root and its record."""
    root = tmp_path_factory.mktemp("ein Lauf äöü 日本")
    return root, train_toy(root, code_digest="c" * 12, data={"data/m.json": "d" * 64})


def test_products(finished):
    root, record = finished
    where = paths(root)
    files = ["evaluations.csv", "retrieval.csv", "run.json", "training.csv"]
    assert sorted(file.name for file in where.record.iterdir()) == files
    assert sorted(file.name for file in where.checkpoint.iterdir()) == ["checkpoint.pt", "checkpoint.pt.sha256"]
    assert not where.scratch.exists()
    assert json.loads((where.record / "run.json").read_text()) == record


def test_record(finished):
    _, record = finished
    assert record["format"] == 1
    assert (record["run"], record["status"], record["reason"], record["seed"]) == (RUN, "finished", None, 3)
    assert record["config"]["learner"] == {"lr": 0.01, "width": 8}
    assert len(record["config_digest"]) == 12
    assert record["code_digest"] == "c" * 12
    assert record["data"] == {"data/m.json": "d" * 64}
    assert record["parameters"] == {"net": 49, "total": 49}
    assert record["updates"] == 60
    assert record["resumed"] == 0
    assert record["hardware"]["threads"] == 1
    assert 0 < record["seconds"]["training"] < record["seconds"]["total"]
    assert record["seconds"]["evaluation"] > 0
    assert record["started"] <= record["finished"]
    assert record["started"].endswith("+00:00")
    assert {"command", "git", "versions", "peak_memory_mb", "budget"} <= set(record)


def test_evaluations(finished):
    found = rows(paths(finished[0]).record / "evaluations.csv")
    assert list(found[0]) == ["update", "task", "episodes", "return_mean", "return_std", "success_rate"]
    assert [(row["update"], row["task"]) for row in found] == [
        (update, task) for update in ("0", "20", "40", "60") for task in ("lift-red", "touch, blue")
    ]


def test_retrieval_is_diagnosed_at_every_evaluation_that_has_something_to_say(finished):
    found = rows(paths(finished[0]).record / "retrieval.csv")
    assert list(found[0]) == ["update", "attended"]
    assert [int(row["update"]) for row in found] == [20, 40, 60]
    assert all(0 <= float(row["attended"]) - int(row["update"]) < 1 for row in found)


def test_a_diagnosis_that_is_not_finite_ends_the_run(tmp_path):
    with pytest.raises(RunFailedError, match="update 40: diagnosis of retrieval: attended is nan"):
        train_toy(tmp_path, fault={"diagnosis_nan_at": 40})


def test_training_rows_are_means_over_their_interval(finished):
    found = rows(paths(finished[0]).record / "training.csv")
    assert list(found[0]) == ["update", "seconds", "loss", "gap", "late"]
    assert [int(row["update"]) for row in found] == [7, 14, 21, 28, 35, 42, 49, 56, 60]
    assert [row["late"] for row in found[:5]] == ["", "", "", "27.0", "32.0"]  # mean of 26..28, of 29..35
    assert float(found[-1]["late"]) == 58.5
    seconds = [float(row["seconds"]) for row in found]
    assert seconds == sorted(seconds)


def test_published_checkpoint_restores_the_learner(finished):
    root, record = finished
    loaded = checkpoints.load(paths(root).checkpoint / "checkpoint.pt")
    assert loaded.header.update == loaded.state["update"] == 60
    assert loaded.header.run == RUN
    assert dict(loaded.header.config) == record["config"]
    learner = ToyLearner(toy_learner.config())
    checkpoints.restore(learner, loaded.state["learner"], "x")
    # The last evaluation is this learner's: value + noise, +1 for the second task.
    last = rows(paths(root).record / "evaluations.csv")[-1]
    noise = float(last["return_mean"]) - 1 - learner.net.eval()(torch.ones(4)).item()
    assert 0 <= noise < 1


def test_the_same_again_is_the_same(finished, tmp_path):
    root, _ = finished
    again = train_toy(tmp_path, code_digest="c" * 12, data={"data/m.json": "d" * 64})
    assert products(tmp_path) == products(root)
    assert again["config_digest"] == finished[1]["config_digest"]


def products(root) -> dict:
    """What must be bitwise equal: evaluations, training without its seconds, the checkpoint file."""
    where = paths(root)
    training = rows(where.record / "training.csv")
    for row in training:
        row.pop("seconds")
    return {
        "evaluations": (where.record / "evaluations.csv").read_bytes(),
        "training": training,
        "checkpoint": (where.checkpoint / "checkpoint.pt").read_bytes(),
    }


def test_how_often_it_evaluates_does_not_change_what_is_learned(finished, tmp_path):
    """Evaluation draws from torch's global generator; training must not notice."""
    train_toy(tmp_path, evaluate_every=3)
    mine, other = (checkpoints.load(paths(root).checkpoint / "checkpoint.pt").state for root in (tmp_path, finished[0]))
    assert all(torch.equal(mine["learner"]["net"][name], value) for name, value in other["learner"]["net"].items())


def test_a_seed_is_a_seed(finished, tmp_path):
    train_toy(tmp_path, seed=4)
    assert products(tmp_path)["training"] != products(finished[0])["training"]


def test_global_settings_of_the_process_are_put_back(tmp_path):
    torch.use_deterministic_algorithms(False)
    threads = torch.get_num_threads()
    seen = {}

    class Looking(ToyLearner):
        def evaluate(self):
            seen.update(threads=torch.get_num_threads(), deterministic=torch.are_deterministic_algorithms_enabled())
            return super().evaluate()

    run(Looking, tmp_path, settings=LoopSettings(threads=1))
    assert seen == {"threads": 1, "deterministic": True}
    run(Looking, tmp_path, settings=LoopSettings("cuda:0", threads=1), force=True)
    assert seen["deterministic"] is False
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()


def run(build, root, **options):
    return loop.train(
        lambda: build(toy_learner.config()),
        Budget(3, 2, 1, 0.0),
        paths(root),
        record={"run": RUN, "seed": 3, "config": toy_learner.config()},
        **options,
    )


def test_a_run_without_updates_is_evaluated_once(tmp_path):
    record = train_toy(tmp_path, updates=0)
    assert record["updates"] == 0
    assert [row["update"] for row in rows(paths(tmp_path).record / "evaluations.csv")] == ["0", "0"]
    assert (paths(tmp_path).record / "training.csv").read_text() == "update,seconds\n"


def test_what_a_learner_publishes_can_be_less_than_its_state(tmp_path):
    class Small(ToyLearner):
        def final_state_dict(self):
            return {"net": self.net.state_dict()}

    run(Small, tmp_path)
    assert set(checkpoints.load(paths(tmp_path).checkpoint / "checkpoint.pt").state["learner"]) == {"net"}


def test_the_record_tells_what_a_learner_knows_of_itself(tmp_path):
    class Talking(ToyLearner):
        def facts(self):
            return {"actions": ["noop", "up"], "run": "not the learner's to tell"}

    record = run(Talking, tmp_path)
    assert record["actions"] == ["noop", "up"]
    assert record["run"] == RUN
    assert json.loads((paths(tmp_path).record / "run.json").read_text())["actions"] == ["noop", "up"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1.5, 1, 1), "budget.updates: 1.5"),
        ((-1, 1, 1), "budget.updates: -1"),
        ((True, 1, 1), "budget.updates: True"),
        ((1, 0, 1), "budget.evaluate_every: 0"),
        ((1, 1, 0), "budget.log_every: 0"),
        ((1, 1, 1, -1.0), "budget.checkpoint_seconds: -1.0"),
        ((1, 1, 1, math.nan), "budget.checkpoint_seconds: nan"),
    ],
)
def test_a_budget_must_make_sense(arguments, message):
    with pytest.raises(RarlError, match=message):
        Budget(*arguments)


# ---------------------------------------------------------------------------------------------- finished, other, forced


def test_a_finished_run_does_nothing_again(finished, caplog):
    caplog.set_level(logging.INFO)
    root, record = finished
    before = {file: file.stat().st_mtime_ns for file in Path(root).rglob("*") if file.is_file()}
    assert train_toy(root, code_digest="c" * 12, data={"data/m.json": "d" * 64}) == record
    assert f"run {RUN} is finished; nothing to do" in caplog.text
    assert {file: file.stat().st_mtime_ns for file in Path(root).rglob("*") if file.is_file()} == before
    assert not paths(root).scratch.exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"learner": {"lr": 0.1}},
            r"run\.json: run \S+ was made with something else: learner\.lr: 0\.01 then, 0\.1 now",
        ),
        ({"code_digest": "e" * 12}, "code: cccccccccccc then, eeeeeeeeeeee now"),
        ({"data": {"data/m.json": "f" * 64}}, "data data/m.json: d{12}… then, f{12}… now"),
        ({"updates": 70}, "budget.updates: 60 then, 70 now"),
        ({"log_every": 8}, "budget.log_every: 7 then, 8 now"),
    ],
)
def test_a_finished_run_asked_for_otherwise_is_refused_with_the_keys(finished, changes, message):
    with pytest.raises(RarlError, match=message):
        train_toy(finished[0], **{"code_digest": "c" * 12, "data": {"data/m.json": "d" * 64}, **changes})


def test_a_finished_run_without_its_checkpoint_says_where_to_get_it(tmp_path):
    train_toy(tmp_path, updates=2)
    (paths(tmp_path).checkpoint / "checkpoint.pt").unlink()
    with pytest.raises(RarlError, match=r"checkpoint\.pt is missing; `rarl restore .*checkpoint\.pt`, or use --force"):
        train_toy(tmp_path, updates=2)


def test_force_trains_again(tmp_path):
    first = train_toy(tmp_path, updates=5)
    second = train_toy(tmp_path, updates=5, learner={"lr": 0.1}, force=True)
    assert (first["config"]["learner"]["lr"], second["config"]["learner"]["lr"]) == (0.01, 0.1)
    assert train_toy(tmp_path, updates=5, learner={"lr": 0.1}) == second


def test_a_forced_run_that_is_killed_goes_on_without_force(tmp_path):
    train_toy(tmp_path, updates=5)
    with pytest.raises(ValueError, match="the environment broke"):
        train_toy(tmp_path, updates=5, learner={"lr": 0.1}, fault={"raise_at": 4}, force=True)
    assert not (paths(tmp_path).record / "run.json").exists()
    record = train_toy(tmp_path, updates=5, learner={"lr": 0.1})
    assert record["resumed"] == 1


def test_a_damaged_record_is_named(tmp_path):
    train_toy(tmp_path, updates=2)
    path = paths(tmp_path).record / "run.json"
    whole = json.loads(path.read_text())
    wrong = [{key: value} for key in ("config", "data", "budget") for value in ("x", [1], 3)] + [{"run": None}]
    texts = [("{", "not valid JSON"), ("[]", "not the record of a run"), ("{}", "'run' is None")]
    for text, message in texts + [(json.dumps(whole | change), f"'{next(iter(change))}' is ") for change in wrong]:
        path.write_text(text)
        with pytest.raises(RarlError, match=message) as caught:
            train_toy(tmp_path, updates=2)
        assert str(path) in str(caught.value)
        assert path.read_text() == text


def test_a_record_needs_its_keys(tmp_path):
    with pytest.raises(RarlError, match="needs 'config'"):
        loop.train(lambda: None, Budget(1, 1, 1), paths(tmp_path), record={"run": RUN, "seed": 0})


# ------------------------------------------------------------------------------------------------------------ resuming


def break_at(root, update, **options):
    with pytest.raises(ValueError, match="the environment broke"):
        train_toy(root, fault={"raise_at": update}, **options)


@pytest.mark.parametrize("updates", [[1], [14, 15, 20], [30, 41, 60], [20, 40]])
def test_a_run_that_stops_and_goes_on_is_the_undisturbed_one(finished, tmp_path, updates):
    options = {"code_digest": "c" * 12, "data": {"data/m.json": "d" * 64}}
    for update in updates:
        break_at(tmp_path, update, **options)
        random.random(), np.random.random(), torch.rand(3)  # noqa: NPY002  (a new process begins elsewhere)
    record = train_toy(tmp_path, **options)
    assert products(tmp_path) == products(finished[0])
    assert record["resumed"] == len(updates)


def test_seconds_add_up_over_processes(tmp_path):
    break_at(tmp_path, 30, fault_free=True)
    before = checkpoints.load_latest(paths(tmp_path).scratch).state["seconds"]
    record = train_toy(tmp_path, fault_free=True)
    assert record["seconds"]["training"] > before["training"] > 0
    assert record["seconds"]["evaluation"] > before["evaluation"] > 0
    total = [float(row["seconds"]) for row in rows(paths(tmp_path).record / "training.csv")]
    assert total == sorted(total)
    assert total[-1] == pytest.approx(record["seconds"]["training"], abs=0.01)


def test_rows_after_the_checkpoint_are_neither_doubled_nor_lost(finished, tmp_path):
    """No checkpoint but that of update 0, so every row is written twice; and the file ends in half a line."""
    options = {"code_digest": "c" * 12, "data": {"data/m.json": "d" * 64}, "checkpoint_seconds": 1000.0}
    break_at(tmp_path, 50, **options)
    scratch = paths(tmp_path).scratch
    assert len(rows(scratch / "training.csv")) == 7
    with open(scratch / "training.csv", "a") as file:
        file.write("56,0.1")
    with open(scratch / "evaluations.csv", "a") as file:
        file.write('60,"li')
    train_toy(tmp_path, **options)
    assert products(tmp_path) == products(finished[0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"learner": {"lr": 0.1, "width": 8}},
            r"checkpoint\.pt: run \S+ was made with something else: learner\.lr: 0\.01 then, 0\.1 now",
        ),
        ({"seed": 4}, "seed: 3 then, 4 now"),
        ({"env": "atari"}, "env: absent then, 'atari' now"),
        ({"code_digest": "f" * 12}, "code: 0123456789ab then, ffffffffffff now"),
        ({"evaluate_every": 5}, "budget.evaluate_every: 20 then, 5 now"),
    ],
)
def test_going_on_with_something_else_is_refused_with_the_keys(tmp_path, changes, message):
    break_at(tmp_path, 10)
    with pytest.raises(RarlError, match=message) as caught:
        train_toy(tmp_path, **changes)
    assert "--force" in str(caught.value)
    train_toy(tmp_path)  # and nothing was spoilt


def test_a_workflow_may_ask_to_start_again_where_something_changed(tmp_path, caplog):
    break_at(tmp_path, 10)
    record = train_toy(tmp_path, updates=5, code_digest="f" * 12, restart_if_changed=True)
    assert record["resumed"] == 0
    assert "starting from update 0: " in caplog.text
    assert "budget.updates: 60 then, 5 now; code: 0123456789ab then, ffffffffffff now" in caplog.text
    # And a finished one too; but what did not change is not done again.
    assert train_toy(tmp_path, updates=5, code_digest="f" * 12, restart_if_changed=True) == record
    assert train_toy(tmp_path, updates=6, code_digest="f" * 12, restart_if_changed=True)["updates"] == 6
    # What did not change goes on.
    break_at(tmp_path, 7, updates=8, restart_if_changed=True)
    assert train_toy(tmp_path, updates=8, restart_if_changed=True)["resumed"] == 1


def test_checkpoint_seconds_may_change(finished, tmp_path):
    options = {"code_digest": "c" * 12, "data": {"data/m.json": "d" * 64}}
    break_at(tmp_path, 33, checkpoint_seconds=0.001, **options)
    train_toy(tmp_path, checkpoint_seconds=50.0, **options)
    assert products(tmp_path) == products(finished[0])


def test_a_learner_of_another_shape_is_one_line(tmp_path):
    break_at(tmp_path, 10)
    with pytest.raises(
        RarlError, match=r"does not fit this learner: net\.0\.weight is \(8, 4\) in the checkpoint and \(9, 4\)"
    ):
        loop.train(
            lambda: ToyLearner(toy_learner.config(learner={"width": 9})),
            Budget(60, 20, 7, 0.0),
            paths(tmp_path),
            record={"run": RUN, "seed": 3, "config": toy_learner.config(), "code_digest": "0123456789ab"},
        )


def test_a_damaged_checkpoint_costs_updates_but_changes_nothing(finished, tmp_path, caplog):
    options = {"code_digest": "c" * 12, "data": {"data/m.json": "d" * 64}}
    break_at(tmp_path, 30, **options)
    with open(paths(tmp_path).scratch / "checkpoint.pt", "r+b") as file:
        file.seek(500)
        file.write(b"\xff\xff")
    train_toy(tmp_path, **options)
    assert "going on from checkpoint.pt.previous (update 28)" in caplog.text
    assert products(tmp_path) == products(finished[0])


def test_if_no_checkpoint_is_usable_it_never_starts_from_zero_by_itself(tmp_path):
    break_at(tmp_path, 30)
    for name in ("checkpoint.pt", "checkpoint.pt.previous"):
        os.truncate(paths(tmp_path).scratch / name, 100)
    with pytest.raises(RarlError, match="no usable checkpoint"):
        train_toy(tmp_path)
    train_toy(tmp_path, force=True)


def test_tensorboard_files_stay_after_the_run(tmp_path):
    train_toy(tmp_path, updates=8, settings={"tensorboard": True})
    assert list((paths(tmp_path).scratch / "tensorboard").glob("events*"))
    assert not (paths(tmp_path).scratch / "checkpoint.pt").exists()


# ------------------------------------------------------------------------------------------------------------ failures


@pytest.mark.parametrize("update", [1, 13, 14, 60])
def test_a_nan_stops_at_its_update_and_keeps_the_last_good_checkpoint(tmp_path, update):
    with pytest.raises(RunFailedError, match=rf"^update {update}: loss is nan$"):
        train_toy(tmp_path, fault={"nan_at": update})
    assert not paths(tmp_path).record.exists()
    loaded = checkpoints.load_latest(paths(tmp_path).scratch)
    assert loaded.header.update == update - 1
    assert checkpoints.first_not_finite(loaded.state["learner"]) is None
    train_toy(tmp_path)  # what was wrong is right again: it goes on


def test_a_failure_on_record_has_all_products(finished, tmp_path):
    record = train_toy(tmp_path, fault={"nan_at": 45}, record_failure=True)
    where = paths(tmp_path)
    assert (record["status"], record["reason"], record["updates"]) == ("failed", "update 45: loss is nan", 45)
    assert json.loads((where.record / "run.json").read_text()) == record
    assert [int(row["update"]) for row in rows(where.record / "training.csv")] == [7, 14, 21, 28, 35, 42]
    assert {row["update"] for row in rows(where.record / "evaluations.csv")} == {"0", "20", "40"}
    loaded = checkpoints.load(where.checkpoint / "checkpoint.pt")
    assert loaded.header.update == loaded.state["update"] == 44
    assert "update 45: loss is nan" in (where.scratch / "train.log").read_text()
    # Started again it goes on from the last good checkpoint; here the fault is gone.
    again = train_toy(tmp_path)
    assert again["status"] == "finished"
    assert products(tmp_path)["training"] == products(finished[0])["training"]


def test_parameters_that_are_not_finite_are_never_saved(tmp_path):
    """The loss looks fine, the weights do not."""
    with pytest.raises(RunFailedError, match=r"^update 30: net\.0\.weight holds nan after this update$"):
        train_toy(tmp_path, fault={"silent_nan_at": 30})
    assert checkpoints.load_latest(paths(tmp_path).scratch).header.update == 29


def test_an_evaluation_that_is_not_finite_fails_too(tmp_path):
    with pytest.raises(RunFailedError, match=r"^update 40: evaluation: return_mean of task 'lift-red' is nan$"):
        train_toy(tmp_path, fault={"evaluation_nan_at": 40})


@pytest.mark.parametrize("fault", ["memory_at", "numpy_memory_at"])
def test_out_of_memory_says_how_much_was_wanted(tmp_path, fault):
    record = train_toy(tmp_path, fault={fault: 12}, record_failure=True)
    assert record["status"] == "failed"
    assert record["reason"].startswith("out of memory after update 11 (")
    assert "\n" not in record["reason"]
    assert "140737488355328 bytes" in record["reason"] or "256. TiB" in record["reason"]
    assert "GB free" in record["reason"]
    assert checkpoints.load(paths(tmp_path).checkpoint / "checkpoint.pt").header.update == 11


def test_out_of_memory_before_the_first_checkpoint_still_has_all_products(tmp_path):
    def build():
        raise MemoryError

    record = loop.train(
        build,
        Budget(1, 1, 1),
        paths(tmp_path),
        record={"run": RUN, "seed": 0, "config": {}},
        record_failure=True,
    )
    assert record["status"] == "failed"
    assert checkpoints.load(paths(tmp_path).checkpoint / "checkpoint.pt").state == {"update": 0, "learner": None}
    assert (paths(tmp_path).record / "training.csv").read_text() == "update,seconds\n"
    assert (paths(tmp_path).record / "evaluations.csv").read_text().startswith("update,task,")


def test_a_learner_may_declare_its_failure(tmp_path):
    class Broken(ToyLearner):
        def update(self):
            raise RunFailedError("the environment hangs")

    assert run(Broken, tmp_path, record_failure=True)["reason"] == "the environment hangs"


def test_other_errors_are_not_hidden(tmp_path):
    with pytest.raises(ValueError, match="the environment broke"):
        train_toy(tmp_path, fault={"raise_at": 3}, record_failure=True)

    class Wrong(ToyLearner):
        def update(self):
            return {"loss": torch.ones(2, 3) @ torch.ones(2, 3)}

    with pytest.raises(RuntimeError, match="shapes"):
        run(Wrong, tmp_path, force=True, record_failure=True)


def test_full_disk_keeps_the_checkpoint_and_says_so(tmp_path):
    break_at(tmp_path, 20)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        with pytest.raises(RarlError, match=r"the checkpoint of update 20 could not be written \(File too large\)"):
            train_toy(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert checkpoints.load_latest(paths(tmp_path).scratch).header.update == 19
    train_toy(tmp_path)


def test_a_disk_that_is_full_at_the_very_end_costs_nothing(finished, tmp_path, monkeypatch):
    options = {"code_digest": "c" * 12, "data": {"data/m.json": "d" * 64}}

    def full(path, text):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(loop, "write_text", full)
        with pytest.raises(
            RarlError, match=r"after update 60: No space left on device; what was saved before is intact"
        ):
            train_toy(tmp_path, **options)
    assert not (paths(tmp_path).record / "run.json").exists()
    assert train_toy(tmp_path, **options)["resumed"] == 1
    assert products(tmp_path) == products(finished[0])


# ----------------------------------------------------------------------------------------------------- scalars on a GPU


class OnDevice(torch.Tensor):
    """A tensor that says that it is on a GPU, and counts how often it is read alone."""

    read = 0

    @property
    def device(self):
        return torch.device("cuda:0")

    def item(self):
        type(self).read += 1
        return super().item()


def test_scalars_on_a_gpu_are_read_once_per_row_and_name_their_update():
    interval = loop._Interval()
    for update, value in enumerate((1.0, 2.0, 6.0), 1):
        interval.add(update, {"loss": torch.tensor(value).as_subclass(OnDevice)})
    assert OnDevice.read == 0
    assert interval.means() == {"loss": 3.0}
    assert interval.means() == {}
    for update, value in enumerate((1.0, math.inf, math.nan), 4):
        interval.add(update, {"gap": torch.tensor(1.0).as_subclass(OnDevice)})
        interval.add(update, {"loss": torch.tensor(value).as_subclass(OnDevice)})
    with pytest.raises(RunFailedError, match=r"^update 5: loss is inf$"):
        interval.read()
    assert OnDevice.read == 0


def test_scalars_do_not_keep_the_graph():
    interval = loop._Interval()
    weight = torch.ones((), requires_grad=True)
    interval.add(1, {"loss": (weight * 2).as_subclass(OnDevice)})
    assert not interval._unread["loss"][0][1].requires_grad
