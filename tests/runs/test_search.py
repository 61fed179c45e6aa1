"""Trying settings: what is tried has an effect and is what the record says; all else is told before."""

from __future__ import annotations

import json

import pytest

from rarl import cli
from rarl.config.scale import Scale
from rarl.mappings import merge
from rarl.runs.search import changed_run
from tests.command_line import fails


@pytest.fixture
def at_tiny(tiny_root, monkeypatch):
    monkeypatch.chdir(tiny_root)


def set_(*assignments, variant="dqn"):
    return ["search", "gridroboman", variant, *(part for a in assignments for part in ("--set", a))]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        # which run it is
        (set_("seed=3"), "--set seed=...: seed says which run it is, not how it learns; use --seed"),
        (set_("variant=oracle"), "use the argument VARIANT"),
        (set_("experiment=babyai"), "use the argument EXPERIMENT"),
        (set_("environment=atari"), "use an experiment of that environment"),
        (set_("task_set=x"), "use --task-set"),
        (set_("tasks=[touch red]"), "use --task-set, with a task set of the scale's file"),
        # not a setting
        (set_("learning.discont=0.9"), "unknown key 'learning.discont'; did you mean 'discount'"),
        (set_("lerning.discount=0.9"), "unknown key 'lerning'; did you mean 'learning'"),
        (set_("discount=0.9"), "unknown key 'discount'"),
        (set_("learning=3"), "learning: "),
        (set_("learning.discount=much"), "--set learning.discount=much: "),
        (set_("learning.discount=.nan"), "learning.discount: must be a finite number, got nan"),
        (set_("updates=100000000000000000000000"), "updates: must be at most 2^53"),
        # twice
        (set_("learning.n_step=2", "learning.n_step=3"), "--set learning.n_step=3: 'learning.n_step' was set before"),
        (set_("learning={n_step: 2, n_step: 3}"), "key 'n_step' stands there twice"),
        (set_("learning.n_step=2", "learning={discount: 0.5}"), "'learning' was set before"),
        (set_("learning=[", "a=b"), "--set learning=["),
        (set_("learning"), "must read KEY=VALUE"),
        # nothing changes
        (set_("learning.discount=0.9"), "--set learning.discount=...: 0.9 is what it is without; leave it out"),
        (set_("learning={n_step: 2, discount: 0.9}"), "--set learning.discount=...: 0.9 is what it is without"),
        (set_("agent.base=dqn"), "'dqn' is what it is without"),
        # no effect
        (set_("tensorboard=true"), "tensorboard=...: has no effect: it changes how a run is carried out"),
        (set_("checkpoint_seconds=3.0"), "has no effect: it changes how"),
        (set_("log_every=3"), "has no effect: a try writes no training log"),
        (
            set_("agent.retrieval.n_f=3"),
            "has no effect: agent.retrieval.process = 'none' retrieves nothing",
        ),
        (set_("agent.fusion=gru"), "has no effect: agent.retrieval.process = 'none' leaves nothing to fuse"),
        (set_("environment_options.stack=4"), "environment_options: unknown key 'stack'"),
        (set_("agent.encoder_options.blocks=1"), "agent.encoder_options: unknown key 'blocks'"),
        (set_("learning.sequence_steps=4"), "has no effect: agents without a core learn from single states"),
        (set_("learning.trace_lambda=0.3"), "has no effect: learning.targets = 'n-step' has no lambda"),
        (set_("learning.masking.share=0.3"), "has no effect: learning.masking.weight is 0"),
        (set_("learning.double=false", variant="mfec"), "agent.base = 'mfec' heeds discount alone"),
        # where
        (["search", "gridrobo", "dqn"], "did you mean 'gridroboman'"),
        (["search", "gridroboman", "dqm"], "unknown variant 'dqm'; did you mean 'dqn'"),
        (["search", "gridroboman", "dqn", "--task-set", "10-tasks"], "--task-set 10-tasks: no such task set; "),
        (["search", "gridroboman", "dqn", "--task-set", "11"], "task_sets.11"),
        (["search", "gridroboman", "dqn", "--seed", str(10**30)], "settings are tried on seeds 100 to 999"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_tried_is_told(at_tiny, tiny_root, capsys, command, expected):
    error = fails(capsys, *command)
    assert expected in error, error
    assert not (tiny_root / "results").exists()


def test_what_one_change_makes_matter_another_may_set(tiny_root):
    scale = Scale("tiny", tiny_root)
    changes = [
        "agent.retrieval.process=slots",
        "agent.retrieval.n_f=3",
        "learning.masking.weight=0.1",
        "learning.masking.share=0.3",
    ]
    s = changed_run(scale, "gridroboman", 10, "dqn", 100, changes).settings
    assert (s.agent.retrieval.process, s.agent.retrieval.n_f, s.learning.masking.share) == ("slots", 3, 0.3)


def test_what_is_of_sequences_is_for_those_who_learn_from_them(tiny_babyai_root, tiny_atari_root):
    babyai, atari = Scale("tiny", tiny_babyai_root), Scale("tiny", tiny_atari_root)
    place = ("babyai", "3-levels-12-episodes", "rdqn", 100)
    assert changed_run(babyai, *place, ["learning.sequence_steps=7"]).settings.learning.sequence_steps == 7
    with pytest.raises(cli.RarlError, match="agents with a core, and those that play, learn from sequences"):
        changed_run(babyai, *place, ["learning.batch_states=7"])
    place = ("atari", "pong", "r2d2", 100)
    assert changed_run(atari, *place, ["learning.trace_lambda=0.3"]).settings.learning.trace_lambda == 0.3
    for change, expected in (
        ("learning.n_step=3", "learning.targets = 'peng' has no n"),
        ("online.overlap=true", "it changes how a run is carried out"),
        ("environment_options.emulator_threads=2", "it changes how a run is carried out"),
    ):
        with pytest.raises(cli.RarlError, match=expected):
            changed_run(atari, *place, [change])


def test_a_try_is_recorded_with_what_was_changed(own_root, monkeypatch):
    monkeypatch.chdir(own_root)
    cli.main(set_("updates=2", "learning={discount: 0.5}"))
    (line,) = (own_root / "results" / "search" / "gridroboman.jsonl").read_text().splitlines()
    row = json.loads(line)
    assert row["changed"] == ["updates=2", "learning={discount: 0.5}"]
    assert (row["seed"], row["task_set"], row["variant"]) == (100, 10, "dqn")
    assert row["return_by_update"][-1][0] == 2
    plain = Scale("tiny").run("gridroboman", 10, "dqn", 100).settings.model_dump(mode="json")
    assert row["config"] == merge(plain, {"updates": 2, "learning": {"discount": 0.5}})


def test_a_try_of_an_agent_that_retrieves_tells_what_it_scores_without(own_root, monkeypatch):
    monkeypatch.chdir(own_root)
    cli.main(set_("updates=2", variant="ra-dqn"))
    (line,) = (own_root / "results" / "search" / "gridroboman.jsonl").read_text().splitlines()
    found = json.loads(line)["retrieval"]
    assert found["score_removed"] >= 0
    assert {"flips_removed", "flips_exchanged"} <= set(found)
