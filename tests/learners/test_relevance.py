"""Learning with retrieval datasets in which few trajectories are relevant: by drawn batches, and by an index."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rarl.agents.index import KeyIndex
from rarl.agents.losses import relevance_loss
from rarl.agents.pools import relevant
from rarl.rollouts import evaluation
from rarl.runs import checkpoints
from tests import tiny_project
from tests.kept_episodes import roll_out_kept
from tests.runs.run_processes import assert_same
from tests.tiny_relevance import SHARES, changes

TIMES = {"index_refresh_seconds"}  # scalars that no two runs have alike


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def learner_of(root, kind=None, more=None):
    return tiny_project.learner_of(root, "ra-dqn", changes(kind, more))


def scalars_of(learner):
    return {name: float(value) for name, value in learner.update().items() if name not in TIMES}


@pytest.mark.parametrize("kind", [None, "exact", "ivf", "hnsw"])
def test_a_learner_goes_on_bitwise_from_its_saved_state(tiny_root, tmp_path, kind):
    """Saved at update 7, two updates after a refresh: the stale keys must come back."""
    whole = learner_of(tiny_root, kind)
    scalars = [scalars_of(whole) for _ in range(12)]

    first = learner_of(tiny_root, kind)
    for _ in range(7):
        first.update()
    state = {"learner": first.state_dict(), "torch": torch.get_rng_state()}
    checkpoints.save(tmp_path / "c.pt", state, checkpoints.Header("test"))
    second = learner_of(tiny_root, kind)
    for _ in range(2):  # whatever it did before
        second.update()
    loaded = checkpoints.load(tmp_path / "c.pt").state
    second.load_state_dict(loaded["learner"])
    torch.set_rng_state(loaded["torch"])
    assert [scalars_of(second) for _ in range(5)] == scalars[7:]
    assert_same(second.state_dict(), whole.state_dict())
    assert second.evaluate() == whole.evaluate()


def test_the_state_holds_the_keys_and_the_published_one_does_not(tiny_root):
    learner = learner_of(tiny_root, "exact")
    learner.update()
    state = learner.state_dict()
    assert state["index"]["keys"].shape == (len(learner.memory.pools), 5, 8)
    assert state["index"]["made_at"] == 0
    assert learner.final_state_dict().keys() == {"network"}
    assert "index" not in learner_of(tiny_root).state_dict()


def test_what_is_logged(tiny_root):
    drawn = learner_of(tiny_root)
    shares = [scalars_of(drawn)["relevant_in_batch"] for _ in range(20)]
    assert 0.3 < np.mean(shares) < 0.8  # of shares 1, 0.5 and 1/12: 0.53
    learner = learner_of(tiny_root, "exact")
    seen = [learner.update() for _ in range(6)]
    assert {"index_age", "index_refresh_seconds", "relevant_in_batch"} <= seen[0].keys()
    assert {"index_age", "index_refresh_seconds", "index_stale_recall"} <= seen[5].keys()
    assert [scalars["index_age"] for scalars in seen] == [0, 1, 2, 3, 4, 0]
    assert 0 <= seen[5]["index_stale_recall"] <= 1


def test_half_of_a_batch_is_what_the_index_proposes_for_the_states_learned_from(tiny_root, monkeypatch):
    learner = learner_of(tiny_root, "exact")
    proposed, batches, asked = [], [], []
    propose, sample = learner.memory.propose_to_learn, learner.memory.sample
    at = learner.sampler.sample
    monkeypatch.setattr(learner.sampler, "sample", lambda *a: asked.append(at(*a)) or asked[-1])
    monkeypatch.setattr(
        learner.memory, "propose_to_learn", lambda *a: proposed.append((a, propose(*a))) or proposed[-1][1]
    )
    monkeypatch.setattr(
        learner.memory, "sample", lambda *a, **k: batches.append((k, sample(*a, **k))) or batches[-1][1]
    )
    learner.update()
    (network, x, tasks, shares, update), (rows, _) = proposed[0]
    assert network is learner.network
    assert update == 0
    assert np.array_equal(x.reshape(-1, 11).numpy(), asked[0].x_tm1)
    assert tasks.tolist() == list(range(10))
    assert set(shares) <= set(SHARES)
    keywords, batch = batches[0]
    assert keywords["shares"] is shares
    pools = learner.memory.pools
    for g in range(10):
        assert len(rows[g]) == 3  # half of 6
        assert batch.given[g, :3].tolist() == pools.given[rows[g]].tolist()
        assert batch.episodes[g, :3].tolist() == pools.episodes[rows[g]].tolist()


@pytest.mark.parametrize("kind", [None, "exact"])
def test_evaluations_take_the_shares_in_turn(tiny_root, monkeypatch, kind):
    learner = learner_of(tiny_root, kind, {"evaluation": {"episodes_per_task": 6, "retrieval_batches": 3}})
    calls, played = [], []
    choose = learner.memory.choose
    monkeypatch.setattr(learner.memory, "choose", lambda *a: calls.append((a, choose(*a))) or calls[-1][1])
    monkeypatch.setattr(evaluation, "roll_out", lambda *a, **k: played.append(roll_out_kept(*a, **k)) or played[-1])
    rows = learner.evaluate()
    assert [row["episodes"] for row in rows] == [6] * 10
    (tasks, _, shares, proposed), chosen = calls[0]
    assert tasks.tolist() == np.repeat(np.arange(10), 3).tolist()
    assert shares.tolist() == SHARES * 10
    for task, share, row in zip(tasks.tolist(), shares.tolist(), chosen, strict=True):
        assert set(row) <= set(learner.memory.pools.rows(task, share))
    if kind is None:
        assert proposed is None
        return
    # By the states that the group's episodes start in, and the whole batch.
    index, starts = KeyIndex(learner.memory.pools, learner.memory.index.settings), played[0].observations[:, 0]
    index.refresh(learner.memory.keys(learner.network), 0)
    queries = learner.memory.queries(learner.network, torch.from_numpy(starts).view(30, 2, 11), tasks)
    expected = index.propose(tasks, shares, queries, 6)
    assert [p.tolist() for p in proposed] == [e.tolist() for e in expected] == chosen.tolist()


def test_an_evaluation_has_fresh_keys_and_leaves_training_those_that_it_has(tiny_root, monkeypatch):
    learner = learner_of(tiny_root, "exact")
    for _ in range(3):
        learner.update()
    keys = learner.memory.index.keys.clone()
    used, propose = [], KeyIndex.propose
    monkeypatch.setattr(
        KeyIndex, "propose", lambda self, *a: used.append((self.made_at, self.keys)) or propose(self, *a)
    )
    learner.evaluate()
    ((made_at, fresh),) = used
    assert made_at == 3
    assert torch.equal(fresh, learner.memory.keys(learner.network))
    assert not torch.allclose(fresh, keys)
    assert torch.equal(learner.memory.index.keys, keys)
    assert learner.memory.index.made_at == 0
    early = learner_of(tiny_root, "exact")
    early.evaluate()
    assert early.memory.index.made_at is None


def test_the_task_reaches_the_query_and_nothing_else(tiny_root):
    learner = learner_of(tiny_root)
    network = learner.network
    batch = learner.memory.sample(np.arange(10), np.random.default_rng(0))
    x, told = batch.x[:, 0], torch.arange(10)[:, None].expand(10, 5)
    with torch.no_grad():
        summaries = batch.summarise(network)
        one, two = network(x, told, summaries), network(x, told.flip(0), summaries)
        assert not torch.allclose(one[1].alpha, two[1].alpha)
        assert not torch.allclose(one[0], two[0])
        # With nothing retrieved there is no way from the task to the actions.
        assert torch.equal(network(x, told)[0], network(x, told.flip(0))[0])
        # Nor where all that can be retrieved is alike.
        alike = summaries._replace(values=summaries.values[:, :1].expand_as(summaries.values).contiguous())
        torch.testing.assert_close(network(x, told, alike)[0], network(x, told.flip(0), alike)[0])


def test_the_told_query_leaves_all_else_initialised_as_it_was(tiny_root):
    hidden = tiny_project.learner_of(tiny_root, "ra-dqn", {"agent": {"retrieval": {"select_by": "attention"}}})
    told = learner_of(tiny_root)
    ours, theirs = told.network.state_dict(), hidden.network.state_dict()
    assert ours.pop("retriever.process.task_in_query").std() > 0.5  # the tasks ask for different things from the start
    assert_same(ours, theirs)
    assert_same(told.auxiliary.state_dict(), hidden.auxiliary.state_dict())


def test_the_query_learns_the_task(tiny_root):
    learner = learner_of(tiny_root)
    before = learner.network.process.task_in_query.detach().clone()
    learner.update()
    assert (learner.network.process.task_in_query != before).any(1).all()


def test_relevance_trains_encoder_summariser_and_query_and_nothing_else(tiny_root):
    learner = learner_of(tiny_root, more={"agent": {"retrieval": {"relevance": 1.0}}})
    losses = learner._losses_of(learner._draw())
    assert losses.relevance.item() > 0
    losses.relevance.backward()
    reached = {n for n, p in learner.network.named_parameters() if p.grad is not None and (p.grad != 0).any()}
    process = "retriever.process."
    parts = ("task_in_query", "slot_", "query", "key", "summariser.forwards", "state_in_key")
    assert reached
    assert all(name.startswith(("encoder.", *(process + part for part in parts))) for name in reached), reached
    assert {"encoder.table", *(process + name for name in ("task_in_query", "key.weight", "query.2.weight"))} <= reached


def test_relevance_counts_by_its_weight(tiny_root):
    weighted, without = (
        learner_of(tiny_root, more={"agent": {"retrieval": {"relevance": weight}}}).update() for weight in (0.5, 0.0)
    )
    assert "relevance_loss" not in without
    expected = float(without["loss"]) + 0.5 * float(weighted["relevance_loss"])
    assert float(weighted["loss"]) == pytest.approx(expected, rel=1e-5)


def test_relevance_ranks_by_the_sum_of_attention(tiny_root):
    """The scores are those that the index ranks by."""
    learner = learner_of(tiny_root)
    tasks = np.arange(10)
    batch = learner.memory.sample(tasks, np.random.default_rng(0), shares=np.full(10, 0.5))
    retrieved = learner._summarise(batch)
    x, told = batch.x[:, 0, :3], torch.arange(10)[:, None].expand(10, 3)
    step = learner.network.unroll(x[:, :, None], told[:, :, None], None, retrieved.online).step
    weights = torch.softmax(learner.memory.queries(learner.network, x, tasks) @ retrieved.online.keys.mT, -1)
    scores = weights.unflatten(-1, (6, -1)).sum(-1).log()
    of_task = torch.from_numpy(relevant(tasks, batch))
    expected = relevance_loss(scores, of_task)
    torch.testing.assert_close(learner._relevance(of_task, step.q, retrieved), expected)
