"""For every kind of agent: which module each loss reaches, and that the parameters counted are those reached."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch

from rarl.learners.value_learner import ValueLearner
from tests import tiny_atari, tiny_babyai, tiny_project, tiny_relevance

READS = {"action_and_reward", "summariser", "state_in_key", "key", "value", "query"}
ASKS = {"slot_mean", "slot_gru"}
PROCESS = "retriever.process"
RETRIEVAL = {f"retriever.process.{part}" for part in (READS - {"action_and_reward"}) | ASKS | {"bottleneck.posterior"}}
PRICED = {f"retriever.process.{part}" for part in ("slot_log_std", "bottleneck.prior")}
BASE = {"encoder", "head.hidden", "head.q"}
DUELING = {"head.state_hidden", "head.state_value"}
USES_Z = {"head.readout", "head.value", "retriever.readout", "retriever.fusion"}
CARRIED = {"retriever.process.slot_attention"}
DRAWN = {"retriever.process.slot_log_std"}
AUXILIARY = {"encoder", "retriever.process.summariser", "auxiliary.past", "auxiliary.future", "auxiliary.out"}


def one_slot(**retrieval):
    return {"agent": {"retrieval": {"n_f": 1, **retrieval}}}


# (project, variant, changes) -> {loss: modules}.
BOARDS = {
    ("dqn",): {"td": BASE},
    ("oracle",): {
        "td": BASE | {"retriever.fusion", "head.value", "retriever.process.embedding"}
    },  # one z: nothing to choose among
    ("ra-dqn",): {
        "td": BASE | USES_Z | RETRIEVAL | DRAWN,
        "kl": RETRIEVAL | PRICED,
        "auxiliary": AUXILIARY,
    },
    ("nothing",): {"td": BASE | USES_Z | DRAWN | {f"retriever.process.{part}" for part in ASKS | {"slot_attention"}}},
}
CHANGED = {
    "one slot": (
        one_slot(),
        {
            # There is nothing to choose among: neither the agent nor its head asks the slots.
            "td": (BASE | USES_Z | RETRIEVAL | DRAWN) - {"retriever.readout", "head.readout"},
            "kl": RETRIEVAL | PRICED,
            "auxiliary": AUXILIARY,
        },
    ),
    "noise without price": (
        {"agent": {"retrieval": {"bottleneck": 0.0}}},
        {"td": BASE | USES_Z | RETRIEVAL | DRAWN, "auxiliary": AUXILIARY},
    ),
    "neither noise nor price": (
        {"agent": {"retrieval": {"bottleneck": 0.0, "draw_z": False, "draw_slots": False}}},
        {"td": BASE | USES_Z | RETRIEVAL, "auxiliary": AUXILIARY},
    ),
    "direct": (
        {"agent": {"fusion": "add", "retrieval": {"process": "direct"}}},
        {
            "td": BASE | {"retriever.fusion"} | {f"retriever.process.{part}" for part in READS - {"action_and_reward"}},
            "auxiliary": AUXILIARY,
        },
    ),
    "actions and rewards": (
        {"agent": {"retrieval": {"trajectory_inputs": "state+action+reward", "auxiliary": 0.0}}},
        {"td": BASE | USES_Z | RETRIEVAL | DRAWN | {"retriever.process.action_and_reward"}, "kl": None},
    ),
    "masking": (
        {"agent": {"retrieval": {"auxiliary": 0.0}}, "learning": {"masking": {"weight": 0.1, "trajectories": 20}}},
        {
            "td": BASE | USES_Z | RETRIEVAL | DRAWN,
            "kl": None,
            "masking": {"encoder", "retriever.process.summariser", "masking"},
        },
    ),
    "conservative": (
        {"learning": {"conservative": 0.1}},
        {"td": BASE | USES_Z | RETRIEVAL | DRAWN, "conservative": None, "kl": None, "auxiliary": AUXILIARY},
    ),
}
LEVELS = {
    ("rdqn",): {"td": BASE | {"core"}},
    ("own",): {
        "td": BASE | USES_Z | RETRIEVAL | CARRIED | DRAWN | {"core"},
        "kl": RETRIEVAL | CARRIED | PRICED,
        "auxiliary": AUXILIARY,
    },
    ("open",): {"td": BASE | USES_Z | RETRIEVAL | CARRIED | DRAWN | {"core"}, "auxiliary": AUXILIARY},
    ("nothing",): {
        "td": BASE | USES_Z | DRAWN | CARRIED | {"core"} | {f"retriever.process.{part}" for part in ASKS},
    },
}
GAMES = {
    "r2d2": {"td": BASE | DUELING | {"core"}},
    "dqn": {"td": BASE | DUELING},
    "ra-r2d2": {
        "td": BASE | DUELING | USES_Z | RETRIEVAL | CARRIED | DRAWN | {"core"},
        "kl": RETRIEVAL | CARRIED | PRICED,
        "auxiliary": AUXILIARY,
    },
    "ra-dqn": {"td": BASE | DUELING | USES_Z | RETRIEVAL | DRAWN, "kl": RETRIEVAL | PRICED, "auxiliary": AUXILIARY},
}


def module_of(name: str) -> str:
    """ "head.q.weight" -> "head.q", one part further below the process; encoder, core and the like as a whole."""
    whole, *parts = name.split(".")
    if whole in ("encoder", "core", "masking"):
        return whole
    if whole == "retriever":
        whole = f"{whole}.{parts.pop(0)}"
        if whole != PROCESS:
            return whole
    if parts[0] == "bottleneck":
        return ".".join((whole, *parts[:2]))
    return f"{whole}.{parts[0]}"


def reached_by(learner: ValueLearner) -> tuple[dict[str, set[str]], set[int]]:
    """Which modules each loss of one learner step reaches, and ids of all parameters that some loss reaches."""
    named = {f"{name}": p for name, p in learner.network.named_parameters()}
    if learner.auxiliary is not None:
        named |= {f"auxiliary.{name}": p for name, p in learner.auxiliary.named_parameters()}
    if learner.masking is not None:
        named |= {f"masking.{name}": p for name, p in learner.masking.predictor.named_parameters()}
    losses = learner._losses_of(learner._draw())
    found, reached = {}, set()
    values = {name: getattr(losses, name) for name in ("td", "conservative", "kl", "auxiliary", "relevance")}
    values["masking"] = losses.masking and losses.masking.loss
    for loss, value in values.items():
        if value is None:
            continue
        gradients = torch.autograd.grad(value, list(named.values()), retain_graph=True, allow_unused=True)
        of = {name for name, g in zip(named, gradients, strict=True) if g is not None}
        if loss == "kl":  # the encoder and the core do not pay for the bottleneck
            of = {name for name in of if name.startswith("retriever.process.")}
        found[loss] = {module_of(name) for name in of}
        reached |= {id(named[name]) for name in of}
    return found, reached


def check(learner: ValueLearner, expected: Mapping[str, set[str] | None]) -> None:
    found, reached = reached_by(learner)
    assert found.keys() == expected.keys()
    for loss, modules in expected.items():
        assert modules is None or found[loss] == modules, loss
    learner.update()
    counted = learner.parameter_counts()
    trained = [p for p in learner.parameters if id(p) in reached]
    tokens = sum(p.numel() for p in learner.masking.vq_vae.parameters()) if learner.masking else 0
    assert sum(counted.values()) == sum(p.numel() for p in trained) + tokens


@pytest.mark.parametrize("variant", BOARDS, ids=lambda variant: variant[0])
def test_on_transitions(tiny_root, variant):
    check(tiny_project.learner_of(tiny_root, *variant), BOARDS[variant])


@pytest.mark.parametrize("change", CHANGED)
def test_on_transitions_with_a_change(tiny_root, change):
    changes, expected = CHANGED[change]
    check(tiny_project.learner_of(tiny_root, "ra-dqn", changes), expected)


@pytest.mark.parametrize("variant", LEVELS, ids=lambda variant: variant[0])
def test_on_sequences(tiny_babyai_root, variant):
    check(tiny_babyai.learner_of(tiny_babyai_root, *variant), LEVELS[variant])


@pytest.mark.parametrize("variant", GAMES)
def test_on_games(tiny_atari_root, variant):
    learner = tiny_atari.learner_of(tiny_atari_root, variant, {"environment_options": {"max_frames": 60}})
    while len(learner.replay) < learner.settings.least_sequences:
        learner.actors.play(10).add_to(learner.replay)
    found, reached = reached_by(learner)
    assert found == GAMES[variant]
    ValueLearner.update(learner)
    trained = [p for p in learner.parameters if id(p) in reached]
    assert sum(learner.parameter_counts().values()) == sum(p.numel() for p in trained)


def test_with_rare_relevance(tiny_root):
    changes = tiny_relevance.changes(more={"agent": {"retrieval": {"relevance": 0.3}}})
    learner = tiny_project.learner_of(tiny_root, "ra-dqn", changes)
    found, _ = reached_by(learner)
    assert found["relevance"] == {"encoder"} | {
        f"retriever.process.{part}"
        for part in (
            "slot_mean",
            "slot_log_std",
            "slot_gru",
            "query",
            "task_in_query",
            "summariser",
            "state_in_key",
            "key",
        )
    }
