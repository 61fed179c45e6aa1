"""Agents that learn while they play: exact resume, the learner step against slow readings of it, and that it learns."""

from __future__ import annotations

import math
import os
import re
import signal

import numpy as np
import pytest
import torch

from rarl.agents.targets import watkins_lambda
from rarl.envs.atari.observation import pack
from rarl.errors import RunFailedError
from rarl.learners import online as online_module
from rarl.learners.value_learner import Retrieved, ValueLearner
from rarl.nn.value_network import State
from rarl.replay.prioritised import Draw
from rarl.runs import checkpoints
from tests import tiny_atari
from tests.fake_games import FakeGames, Watched
from tests.runs.run_processes import assert_same, products, start, wait_for_update

VARIANTS = ["r2d2", "ra-r2d2", "dqn", "ra-dqn", "no-retrieval"]
EPSILON = 1e-3


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def fake(monkeypatch):
    FakeGames.play_instead(monkeypatch)


def h(x):
    return math.copysign(math.sqrt(abs(x) + 1) - 1, x) + EPSILON * x


def h_inverse(y):
    root = math.sqrt(1 + 4 * EPSILON * (abs(y) + 1 + EPSILON))
    return math.copysign(((root - 1) / (2 * EPSILON)) ** 2 - 1, y)


def numbers(scalars):
    return {name: float(value) for name, value in scalars.items()}


# --------------------------------------------------------------------------------------------------------------- resume


def goes_on_bitwise(root, tmp_path, variant, changes=None, rounds=10):
    whole = tiny_atari.learner_of(root, variant, changes)
    scalars = [numbers(whole.update()) for _ in range(rounds)]
    end = whole.evaluate()

    first = tiny_atari.learner_of(root, variant, changes)
    for _ in range(rounds // 2):
        first.update()
    state = {"learner": first.state_dict(), "torch": torch.get_rng_state()}
    assert checkpoints.first_not_finite(state["learner"]) is None
    checkpoints.save(tmp_path / "c.pt", state, checkpoints.Header("test"))
    second = tiny_atari.learner_of(root, variant, changes)
    for _ in range(3):  # whatever it did before
        second.update()
    loaded = checkpoints.load(tmp_path / "c.pt").state
    second.load_state_dict(loaded["learner"])
    torch.set_rng_state(loaded["torch"])
    rest = [numbers(second.update()) for _ in range(rounds - rounds // 2)]
    assert rest == scalars[rounds // 2 :]
    assert "td_loss" in rest[0]
    assert_same(second.state_dict(), whole.state_dict())
    assert second.evaluate() == end
    assert_same(second.final_state_dict(), whole.final_state_dict())


@pytest.mark.parametrize("variant", ["r2d2", "ra-r2d2", "dqn", "no-retrieval"])
@pytest.mark.usefixtures("fake")
def test_a_learner_goes_on_bitwise_from_its_saved_state(tiny_atari_root, tmp_path, variant):
    goes_on_bitwise(tiny_atari_root, tmp_path, variant)


@pytest.mark.slow
def test_the_same_with_real_games(tiny_atari_root, tmp_path):
    options = {"sticky": 0.25, "max_frames": 60, "emulator_threads": 2}
    changes = {"online": {"overlap": True}, "environment_options": options}
    goes_on_bitwise(tiny_atari_root, tmp_path, "ra-r2d2", changes)


@pytest.mark.usefixtures("fake")
def test_evaluations_are_deterministic_and_leave_learning_alone(tiny_atari_root):
    one, other = (tiny_atari.learner_of(tiny_atari_root, "ra-r2d2") for _ in range(2))
    for learner in (one, other):
        torch.manual_seed(3)
        for _ in range(5):
            learner.update()
    state = torch.get_rng_state()
    assert one.evaluate() == one.evaluate()
    assert torch.equal(torch.get_rng_state(), state)
    for learner in (one, other):
        torch.manual_seed(4)
        learner.update()
    assert_same(one.state_dict(), other.state_dict())


# ----------------------------------------------------------------------------------------- what must make no difference


def after_rounds(root, variant, changes, rounds=8):
    learner = tiny_atari.learner_of(root, variant, changes)
    scalars = [numbers(learner.update()) for _ in range(rounds)]
    return scalars, learner.state_dict()


@pytest.mark.parametrize("variant", ["r2d2", "ra-r2d2"])
@pytest.mark.usefixtures("fake")
def test_playing_while_learning_changes_nothing(tiny_atari_root, variant):
    one, other = (after_rounds(tiny_atari_root, variant, {"online": {"overlap": each}}) for each in (False, True))
    assert "td_loss" in one[0][-1]
    assert_same(one, other)


def test_emulator_threads_change_nothing(tiny_atari_root):
    one, other = (
        after_rounds(tiny_atari_root, "r2d2", {"environment_options": {"emulator_threads": n, "max_frames": 60}}, 5)
        for n in (1, 2)
    )
    assert_same(one, other)


# --------------------------------------------------------------------------------------------- what was played, watched


def watched(learner, *plays):
    """The learner after so many steps of playing, with a new retrieval batch before each but the first."""
    Watched.watch(learner.actors.policy)
    for k, steps in enumerate(plays):
        if k:
            learner._refresh()
        learner.actors.play(steps).add_to(learner.replay)
    return learner


def episodes_of(learner):
    """[(actor, [call numbers])] of all episodes in the order in which they began: the replay's numbers."""
    found, now = [], {}
    for t, (first, *_) in enumerate(learner.actors.policy.calls):
        for i in range(len(first)):
            if first[i]:
                now[i] = (i, [])
                found.append(now[i])
            now[i][1].append(t)
    return found


def losses_of(learner):
    """The losses of a learner step, after which the replay has its priorities."""
    drawn = learner._draw()
    losses = learner._losses_of(drawn)
    learner._learned(drawn, dict(losses.scalars))
    return losses


class Spy:
    """What goes through a learner step. `draw`: what was drawn; `batch`: the retrieval batch; `retrieved`: summaries;
    `q`, `a`, `targets`, `learn`, `r`, `discount`, `q_target`: of the TD loss; `priorities`: (ids, priorities)."""

    def __init__(self, learner, monkeypatch):
        targets_of, td_loss, sample = online_module.sequence_targets, online_module.td_loss, learner.replay.sample
        batch_of, summarise, update = learner._batch, learner._summarise, learner.replay.update_priorities

        def targets(r, discount, a, learn, q_target, q_online=None, **options):
            self.r, self.discount, self.learn, self.q_target, self.q_online = r, discount, learn, q_target, q_online
            self.options = options
            return targets_of(r, discount, a, learn, q_target, q_online, **options)

        def loss(q, a, targets, delta):
            self.q, self.a, self.targets = q, a, targets
            return td_loss(q, a, targets, delta)

        def priorities(ids, values):
            self.priorities = ids.copy(), values.copy()
            update(ids, values)

        monkeypatch.setattr(online_module, "sequence_targets", targets)
        monkeypatch.setattr(online_module, "td_loss", loss)
        learner.replay.sample = lambda *a: self._keep("draw", sample(*a))
        learner._batch = lambda *a: self._keep("batch", batch_of(*a))
        learner._summarise = lambda *a: self._keep("retrieved", summarise(*a))
        learner.replay.update_priorities = priorities

    def _keep(self, name, value):
        setattr(self, name, value)
        return value


@pytest.mark.parametrize("burn_in", [0, 4])
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.usefixtures("fake")
def test_values_on_a_replayed_window_are_those_at_acting_time(tiny_atari_root, monkeypatch, variant, burn_in):
    """As long as the network and what it retrieves have not changed: then the stored state, the stack, the last action
    and reward, the burn-in and all offsets fit."""
    changes = {
        "agent": {"retrieval": {"standardise": False}},  # else acting has other statistics than a learner step
        "learning": {"burn_in": burn_in, "sequence_steps": 9},
        "online": {"capacity_sequences": 300, "period_steps": 3},
    }
    learner = watched(tiny_atari.learner_of(tiny_atari_root, variant, changes), 40, 60)
    calls, log, episodes = learner.actors.policy.calls, learner.actors.envs.games.log, episodes_of(learner)
    retrieved = learner.actors.policy.retrieved
    assert (retrieved is not None) == learner.settings.agent.retrieves
    replay, spy = learner.replay, Spy(learner, monkeypatch)
    everything = replay.at(replay.ids)
    chosen = [k for k in range(len(replay)) if episodes[everything.episodes[k]][1][0] >= 40]
    ids = replay.ids[chosen]
    others = replay.at(replay.ids[:4])
    replay.sample = lambda *_: Draw(replay.at(ids), np.ones(len(ids), dtype=np.float32), others)
    learner._summarise = lambda batch: Retrieved(batch, retrieved, retrieved)
    losses_of(learner)
    compared, leads = 0, set()
    for k, window in enumerate(chosen):
        actor, times = episodes[everything.episodes[window]]
        lead = int((everything.mask[window] & ~everything.learn[window]).sum())
        leads.add((lead, everything.starts[window] == 0))
        length = int(everything.learn[window].sum())
        assert spy.learn[0, k].tolist() == [True] * length + [False] * (9 - burn_in - length)
        for j in range(length + 1):
            step = everything.starts[window] + lead + j
            if step == len(times):  # an episode's last observation, at which nothing was done
                continue
            t = times[step]
            np.testing.assert_allclose(spy.q_target[0, k, j], calls[t][3][actor], atol=3e-6)
            compared += 1
            if j < length:
                actions, played = log[t]
                assert spy.a[0, k, j] == actions[actor]
                assert spy.r[0, k, j] == played.rewards[actor]
                ends = played.terminated[actor]
                assert spy.discount[0, k, j].item() == pytest.approx(0.0 if ends else 0.9)
    assert compared > 100
    if burn_in:
        assert {(0, True), (3, True), (4, False)} <= leads


# ----------------------------------------------------------------------------------------------------- the learner step


def literal_loss(learner, spy):
    """The TD loss row by row and step by step, in one network's plain unrolling; bottleneck and statistics off."""
    windows, weights = spy.draw.learn, spy.draw.weights
    online = target = None
    if learner.settings.agent.retrieves:
        online = spy.batch.summarise(learner.network)
        target = online.map(torch.Tensor.detach)
    total, count, rows = 0.0, 0, []
    packed = pack(windows.observations, windows.last_actions, windows.last_rewards)
    for b in range(len(windows)):
        real, steps = int(windows.mask[b].sum()), int(windows.learn[b].sum())
        lead = real - steps
        rows.append((lead, steps, int(windows.starts[b])))
        values = []
        for network, summaries, learns in ((learner.network, online, True), (learner.target, target, False)):
            state, q = None, []
            if network.core is not None:
                core = torch.from_numpy(windows.state["core"][b])[None, None]
                slots = None
                if "slots" in windows.state:
                    slots = torch.from_numpy(windows.state["slots"][b])[None, None]
                    if windows.starts[b] == 0:
                        slots = network.process.slot_mean[None, None]
                state = State(core, slots)
            for t in range(real + 1):
                x = torch.from_numpy(packed[b, t])[None, None]
                with torch.set_grad_enabled(learns and t >= lead):
                    if state is None:
                        here = network(x, torch.zeros(1, 1, dtype=torch.int64), summaries)[0][0, 0]
                    else:
                        one = network.unroll(x[:, :, None], torch.zeros(1, 1, 1, dtype=torch.int64), state, summaries)
                        state, here = one.state, one.q[0, 0, 0]
                if t >= lead:
                    q.append(here)
            values.append(torch.stack(q))
        q, q_target = values
        # Peng's Q(lambda), from the end: the value of the state after a step is the target network's greatest.
        later = None
        for j in reversed(range(steps)):
            t = lead + j
            ahead = h_inverse(float(q_target[j + 1].max()))
            mixed = ahead if later is None else 0.2 * ahead + 0.8 * later
            later = float(windows.r_t[b, t]) + float(windows.discount_t[b, t]) * mixed
            error = q[j, windows.actions[b, t]] - h(later)
            total = total + float(weights[b]) * error**2 / 2
            count += 1
    return total / count, rows


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.usefixtures("fake")
def test_the_loss_and_its_gradients_are_those_of_each_row_alone(tiny_atari_root, monkeypatch, variant):
    """No gradient comes from the burn-in; near an episode's start the right steps are learned from."""
    retrieval = {
        "bottleneck": 0.0,
        "draw_z": False,
        "draw_slots": False,
        "standardise": False,
        "keep_apart": "none",
    }
    changes = {
        "agent": {"retrieval": retrieval},
        "learning": {"sequence_steps": 9, "batch_sequences": 20, "burn_in": 0 if "dqn" in variant else 4},
        "online": {"period_steps": 3, "capacity_sequences": 300},
    }
    learner = watched(tiny_atari.learner_of(tiny_atari_root, variant, changes), 50, 40)
    for _ in range(2):  # away from the target and from what the actors have
        ValueLearner.update(learner)
    spy = Spy(learner, monkeypatch)
    td = losses_of(learner).td
    literal, rows = literal_loss(learner, spy)
    if "dqn" not in variant:
        assert {lead for lead, *_ in rows} == {0, 3, 4}
        assert any(lead and start == 0 for lead, _, start in rows)
    assert min(steps for _, steps, _ in rows) < 9 - learner.settings.learning.burn_in  # some end early
    assert td.item() == pytest.approx(literal.item(), rel=1e-4)
    parameters = dict(learner.network.named_parameters())
    found, expected = (
        torch.autograd.grad(loss, list(parameters.values()), allow_unused=True) for loss in (td, literal)
    )
    scale = max(float(g.abs().max()) for g in expected if g is not None)
    for name, one, other in zip(parameters, found, expected, strict=True):
        one, other = (torch.zeros(1) if g is None else g for g in (one, other))
        torch.testing.assert_close(one.expand_as(other), other, rtol=1e-3, atol=1e-5 * scale, msg=name)


@pytest.mark.parametrize(
    "learning",
    [
        {"targets": "n-step", "n_step": 3, "double": True},
        {"targets": "n-step", "n_step": 5, "double": False},
        {"targets": "watkins", "double": False},
        {"targets": "watkins", "double": True},
        {"targets": "peng", "double": True, "rescale_epsilon": None},
    ],
    ids=lambda value: "-".join(map(str, value.values())),
)
@pytest.mark.usefixtures("fake")
def test_all_targets(tiny_atari_root, monkeypatch, learning):
    learner = watched(tiny_atari.learner_of(tiny_atari_root, "r2d2", {"learning": learning}), 40)
    ValueLearner.update(learner)
    spy = Spy(learner, monkeypatch)
    losses_of(learner)
    epsilon, double, n = learner.settings.learning.rescale_epsilon, learning["double"], learning.get("n_step")
    forward, back = (h, h_inverse) if epsilon else (float, float)
    chooser = spy.q_online
    assert torch.equal(chooser[:, :, :-1], spy.q.detach()) if double else torch.equal(chooser, spy.q_target)
    if learning["targets"] == "watkins":
        lambdas = watkins_lambda(chooser, spy.a, 0.8)
        assert 0 < (lambdas > 0).float().mean() < 1
    for b in range(3):
        length = int(spy.learn[0, b].sum())
        r, discount = spy.r[0, b].tolist(), spy.discount[0, b].tolist()
        value = [back(float(spy.q_target[0, b, j + 1, chooser[0, b, j + 1].argmax()])) for j in range(length)]
        returns = [0.0] * length
        for j in reversed(range(length)):
            if n:
                last = min(j + n, length) - 1
                ahead = value[last]
                for k in reversed(range(j, last + 1)):
                    ahead = r[k] + discount[k] * ahead
                returns[j] = ahead
            else:
                lambda_ = 0.0 if j + 1 == length else 0.8 if learning["targets"] == "peng" else float(lambdas[0, b, j])
                ahead = value[j] if j + 1 == length else (1 - lambda_) * value[j] + lambda_ * returns[j + 1]
                returns[j] = r[j] + discount[j] * ahead
        np.testing.assert_allclose(spy.targets[0, b, :length], [forward(x) for x in returns], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.usefixtures("fake")
def test_priorities_are_those_of_the_td_errors(tiny_atari_root, monkeypatch, variant):
    learner = watched(tiny_atari.learner_of(tiny_atari_root, variant), 40)
    spy = Spy(learner, monkeypatch)
    ValueLearner.update(learner)
    (ids, priorities), q = spy.priorities, spy.q.detach()
    assert (ids == spy.draw.learn.ids).all()
    for b in range(len(ids)):
        steps = np.flatnonzero(spy.draw.learn.learn[b])
        lead = steps[0]
        errors = [
            abs(float(q[0, b, t - lead, spy.draw.learn.actions[b, t]] - spy.targets[0, b, t - lead])) for t in steps
        ]
        assert priorities[b] == pytest.approx(0.9 * max(errors) + 0.1 * np.mean(errors), rel=1e-5)
    rows = ids % learner.replay.settings.capacity_sequences
    np.testing.assert_allclose(learner.replay._tree.weights[rows], priorities**0.9, rtol=1e-5)


@pytest.mark.parametrize("burn_in", [0, 2])
@pytest.mark.parametrize(
    "learning", [{"targets": "peng"}, {"targets": "n-step", "n_step": 3, "double": True}, {"targets": "watkins"}]
)
def test_first_priorities_are_those_of_a_learner_step_with_the_actors_values(
    tiny_atari_root, monkeypatch, learning, burn_in
):
    """As long as actors, online and target network are the same, a new window's priority is what learning gives it."""
    FakeGames.play_instead(monkeypatch, cut=0.0)  # where an episode is cut off, the values after it are not known
    changes = {
        "learning": {**learning, "burn_in": burn_in, "sequence_steps": 8, "batch_sequences": 60},
        "online": {"capacity_sequences": 300, "period_steps": 3},
    }
    learner = tiny_atari.learner_of(tiny_atari_root, "r2d2", changes)
    learner.actors.play(60).add_to(learner.replay)
    replay = learner.replay
    first = replay._priorities[: len(replay)].copy()
    set_anew, update = [], replay.update_priorities
    replay.update_priorities = lambda ids, priorities: set_anew.extend(ids) or update(ids, priorities)
    losses_of(learner)
    np.testing.assert_allclose(replay._priorities[: len(replay)], first, rtol=2e-4, atol=1e-6)
    assert len(set(set_anew)) > 20


# ------------------------------------------------------------------------------------------------------------ retrieval


@pytest.mark.parametrize("variant", ["ra-r2d2", "ra-dqn"])
@pytest.mark.usefixtures("fake")
def test_nothing_is_retrieved_that_is_learned_from(tiny_atari_root, monkeypatch, variant):
    learner = tiny_atari.learner_of(tiny_atari_root, variant, {"updates": 30})
    spy, steps = Spy(learner, monkeypatch), 0
    for _ in range(30):
        spy.draw = None
        learner.update()
        if spy.draw is None:
            continue
        steps += 1
        one, other = spy.draw.learn, spy.draw.retrieve
        assert len(other) == 4
        assert len(set(other.ids.tolist())) == 4
        for b in range(len(one)):
            for i in range(len(other)):
                if one.episodes[b] == other.episodes[i]:
                    first, last = (max, min)
                    begin = first(one.starts[b], other.starts[i])
                    end = last(one.starts[b] + one.mask[b].sum(), other.starts[i] + other.mask[i].sum())
                    assert begin > end
    assert steps > 15


@pytest.mark.parametrize("in_a_row", [None, 5])
@pytest.mark.parametrize("variant", ["ra-r2d2", "ra-dqn"])
@pytest.mark.usefixtures("fake")
def test_retrieval_batches_hold_what_was_played(tiny_atari_root, monkeypatch, variant, in_a_row):
    """Of whole windows, or of some steps in a row of each; values count the rewards to the window's end in any case."""
    changes = {"agent": {"retrieval": {"trajectory_steps": in_a_row}}}
    learner = watched(tiny_atari.learner_of(tiny_atari_root, variant, changes), 60)
    calls, log, episodes = learner.actors.policy.calls, learner.actors.envs.games.log, episodes_of(learner)
    spy, shorter, begun = Spy(learner, monkeypatch), 0, set()
    for _ in range(6):
        losses_of(learner)
        batch, windows = spy.batch, spy.draw.retrieve
        if in_a_row is None:
            assert batch.a.shape == (1, 4, 3)
        assert batch.context.shape == (1, 4, 1)
        assert (batch.episodes[0] == windows.episodes).all()
        for i in range(4):
            actor, times = episodes[windows.episodes[i]]
            length = int(windows.mask[i].sum())
            shorter += length < 8
            looked = min(in_a_row or 8, length)
            start = batch.steps[0, i, 0] - windows.starts[i] - min(3, looked) + 1
            begun.add((length - looked, start))
            # Of every three steps the last, and the last of all.
            for j, begin in enumerate((0, 3, 6)[: batch.a.shape[2]]):
                assert (batch.mask is None or bool(batch.mask[0, i, j])) == (begin < looked)
                if begin >= looked:
                    continue
                t = start + min(begin + 3, looked) - 1
                assert batch.steps[0, i, j] == windows.starts[i] + t
                now = times[windows.starts[i] + t]
                assert (batch.x[0, i, j].numpy() == calls[now][1][actor]).all()
                assert batch.a[0, i, j] == log[now][0][actor]
                rewards = [float(log[times[windows.starts[i] + k]][1].rewards[actor]) for k in range(t, length)]
                assert batch.r[0, i, j].item() == pytest.approx(h(rewards[0]), abs=1e-5)
                value = sum(0.9**k * reward for k, reward in enumerate(rewards))
                assert batch.value[0, i, j].item() == pytest.approx(h(value), abs=1e-4)
    assert shorter > 3
    assert all(0 <= start <= free for free, start in begun)
    assert (len({start for _, start in begun}) > 1) == (in_a_row is not None)


@pytest.mark.usefixtures("fake")
def test_both_networks_read_one_retrieval_batch(tiny_atari_root, monkeypatch):
    for reads in ("online", "target"):
        changes = {"agent": {"retrieval": {"target_reads": reads}}}
        learner = watched(tiny_atari.learner_of(tiny_atari_root, "ra-r2d2", changes), 60)
        for _ in range(2):
            ValueLearner.update(learner)
        spy = Spy(learner, monkeypatch)
        losses_of(learner)
        with torch.no_grad():
            expected = spy.batch.summarise(learner.network if reads == "online" else learner.target)
        assert not spy.retrieved.target.keys.requires_grad
        assert torch.equal(spy.retrieved.target.keys, expected.keys)
        assert torch.equal(spy.retrieved.target.keys, spy.retrieved.online.keys) == (reads == "online")


def gradients(root, variant="ra-r2d2", **retrieval):
    changes = {"agent": {"retrieval": retrieval}, "learning": {"max_gradient_norm": 1e9}}
    learner = watched(tiny_atari.learner_of(root, variant, changes), 60)
    learner.optimiser.step = lambda: None
    torch.manual_seed(3)
    ValueLearner.update(learner)
    return {name: p.grad for name, p in learner.network.named_parameters()}


def differing(one, other):
    zero = torch.zeros(())
    one, other = ({name: zero if g is None else g for name, g in each.items()} for each in (one, other))
    return {name for name in one if not torch.allclose(one[name], other[name], rtol=1e-3, atol=1e-7)}


@pytest.mark.parametrize("variant", ["ra-r2d2", "ra-dqn"])
@pytest.mark.usefixtures("fake")
def test_the_bottleneck_trains_the_retrieval_process_alone(tiny_atari_root, variant):
    changed = differing(*(gradients(tiny_atari_root, variant, bottleneck=beta) for beta in (1e-9, 0.5)))
    assert {"retriever.process.bottleneck.prior.weight", "retriever.process.bottleneck.posterior.bias"} <= changed
    assert all(name.startswith("retriever.process.") for name in changed), changed


@pytest.mark.usefixtures("fake")
def test_an_agent_that_never_retrieves_has_no_bottleneck_to_pay_for(tiny_atari_root):
    one, other = (gradients(tiny_atari_root, "no-retrieval", bottleneck=beta) for beta in (1e-9, 0.5))
    assert not differing(one, other)
    assert all(g is None or not (g != 0).any() for name, g in one.items() if "bottleneck" in name)


@pytest.mark.usefixtures("fake")
def test_auxiliary_losses_train_encoder_and_summariser_alone(tiny_atari_root):
    changed = differing(*(gradients(tiny_atari_root, auxiliary=weight) for weight in (1e-9, 0.5)))
    assert {"encoder.trunk.0.weight", "encoder.out.weight"} <= changed
    assert all(name.startswith(("encoder.", "retriever.process.summariser.")) for name in changed), changed


@pytest.mark.usefixtures("fake")
def test_the_td_loss_trains_everything_that_acts(tiny_atari_root):
    found = gradients(tiny_atari_root, bottleneck=0.0, auxiliary=0.0)
    assert not {name for name, g in found.items() if g is None or not (g != 0).any()}


# -------------------------------------------------------------------------------------------------- rounds and settings


@pytest.mark.usefixtures("fake")
def test_actors_get_the_network_and_a_retrieval_batch_every_so_many_rounds(tiny_atari_root):
    learner = tiny_atari.learner_of(tiny_atari_root, "ra-r2d2", {"online": {"refresh_updates": 3}})
    before = learner.actors.policy.retrieved
    assert before is None
    for update in range(1, 13):
        learner.update()
        network, acting = (torch.cat([p.flatten() for p in n.parameters()]) for n in (learner.network, learner.acting))
        now = learner.actors.policy.retrieved
        if update % 3:
            assert now is before
        else:
            assert torch.equal(network, acting)
            if now is not None:
                assert not now.keys.requires_grad
                assert now.n_traj == 4
                assert before is None or not torch.equal(now.keys, before.keys)
        before = now
    assert now is not None
    assert not any(p.requires_grad for p in learner.acting.parameters())


@pytest.mark.parametrize("variant", ["r2d2", "ra-r2d2"])
@pytest.mark.usefixtures("fake")
def test_learning_begins_when_the_replay_holds_enough(tiny_atari_root, variant):
    learner = tiny_atari.learner_of(tiny_atari_root, variant, {"online": {"start_sequences": 9}})
    least = 9 if variant == "r2d2" else 3 * 5 + 4  # 3 are learned from, each with 2 that overlap on either side
    for _ in range(12):
        there = len(learner.replay)
        assert ("td_loss" in learner.update()) == (there >= least)
    assert 0 < learner.updates_done < learner.rounds == 12


@pytest.mark.parametrize("variant", ["r2d2", "ra-r2d2"])
@pytest.mark.parametrize("recompute", [0, 8])
@pytest.mark.usefixtures("fake")
def test_half_precision_of_the_encoder_gives_nearly_the_same_gradients(tiny_atari_root, variant, recompute):
    found = []
    for precision in ("float32", "bfloat16"):
        changes = {
            "agent": {
                "encoder_options": {"recompute": recompute},
                "retrieval": {"bottleneck": 0.0, "k_traj": 4, "k_states": 100},
            },
            "online": {"precision": precision},
        }
        learner = watched(tiny_atari.learner_of(tiny_atari_root, variant, changes), 60)
        losses = losses_of(learner)
        loss = losses.td if losses.auxiliary is None else losses.td + losses.auxiliary
        loss.backward()
        found.append(torch.cat([p.grad.flatten() for p in learner.network.parameters() if p.grad is not None]))
        assert learner.network.encoder.precision == learner.target.encoder.precision == torch.float32
    one, other = found
    assert not torch.equal(one, other)
    assert torch.cosine_similarity(one, other, dim=0) > 0.99


@pytest.mark.usefixtures("fake")
def test_values_that_are_not_finite_fail_the_run(tiny_atari_root):
    learner = watched(tiny_atari.learner_of(tiny_atari_root, "r2d2"), 60)
    with torch.no_grad():
        learner.network.head.q.bias.fill_(float("inf"))
    with pytest.raises(RunFailedError, match="update 1: the TD errors are not finite"):
        learner.update()


# ------------------------------------------------------------------------------------------------------------- learning


ATTAINABLE = 2.0  # 1 + 1/2 + 1/4 + ...


def played_for_what_pays(root, monkeypatch, variant, updates, seed=0):
    """A learner of a game of which one action of four always gives 1 and the others 0; (share of greedy steps that
    choose it, largest value, mean value of that action), in units of reward, after every 100 updates."""
    FakeGames.play_instead(monkeypatch, pays=2, ends=0.02, cut=0.02)
    changes = {
        "updates": updates,
        "agent": {"d_s": 16},
        "learning": {"learning_rate": 0.01, "discount": 0.5, "batch_sequences": 8, "warm_up_updates": 10},
        "online": {"capacity_sequences": 200, "steps_per_update": 5},
        "evaluation": {"epsilon": 0.0, "episodes_per_task": 4},
    }
    learner, found = tiny_atari.learner_of(root, variant, changes, seed), []
    Watched.watch(learner.actors.policy)
    for update in range(1, updates + 1):
        learner.update()
        if update % 100 == 0:
            learner.actors.policy.calls.clear()
            learner.actors.play(40).add_to(learner.replay)
            q = np.concatenate([q for *_, q, _ in learner.actors.policy.calls])
            found.append(((q.argmax(1) == 2).mean(), h_inverse(float(q.max())), h_inverse(float(q[:, 2].mean()))))
    return found


@pytest.mark.parametrize(
    "variant", ["dqn", *(pytest.param(variant, marks=pytest.mark.slow) for variant in ("r2d2", "ra-r2d2"))]
)
def test_the_action_that_pays_is_learned(tiny_atari_root, monkeypatch, variant):
    ((chosen, largest, mean),) = played_for_what_pays(tiny_atari_root, monkeypatch, variant, 100)
    assert chosen > 0.95
    assert mean > 0.6 * ATTAINABLE  # on its way
    assert largest < 1.2 * ATTAINABLE


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_values_of_a_retrieving_agent_do_not_run_away(tiny_atari_root, monkeypatch, seed):
    """Three times the updates. They did, up to 60 times what is attainable, while play normalised what it read by the
    variance within batches: all states here read one retrieval batch, and those of others lay hundreds of deviations
    away."""
    for chosen, largest, _ in played_for_what_pays(tiny_atari_root, monkeypatch, "ra-r2d2", 300, seed):
        assert chosen > 0.95
        assert largest < 1.2 * ATTAINABLE


# -------------------------------------------------------------------------------------------- runs, by the command line


@pytest.mark.slow
def test_a_killed_run_ends_as_if_nothing_had_happened(tmp_path):
    run = "atari/pong/ra-r2d2/seed-0"
    settings = {
        "updates": 30,
        "log_every": 2,
        "checkpoint_seconds": 0.05,
        "evaluation": {"every_updates": 15, "episodes_per_task": 1},
        "online": {"overlap": True},
        "environment_options": {"max_frames": 60},
    }
    roots = [tmp_path / name for name in ("undisturbed", "killed")]
    for root in roots:
        tiny_atari.write_config(root, {"experiments": {"atari": {"settings": settings}}})
    reference, process = start(roots[0], run), start(roots[1], run)
    wait_for_update(roots[1], run, process, 14)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not os.path.exists(roots[1] / "results")
    process = start(roots[1], run)
    said = process.communicate()[0]
    assert process.returncode == 0, said
    assert 14 <= int(re.search(r"goes on from update (\d+)/30", said)[1]) < 30
    said = reference.communicate()[0]
    assert reference.returncode == 0, said
    (state, evaluations, rows, record), (expected, *same, other) = (products(root, run) for root in reversed(roots))
    assert_same(state, expected)
    assert [evaluations, rows] == same
    assert "td_loss" in rows[-1]
    assert rows[-1]["td_loss"]
    assert (record["resumed"], other["resumed"]) == (1, 0)
    assert state["learner"]["memory"]["x"].shape[:3] == (1, 4, 3)
