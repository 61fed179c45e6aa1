"""Episodic control asks its memories for many states at once: as if one state after another asked one memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rarl.agents import episodic_memory
from rarl.agents.episodic import MFEC, NEC, Looked, rmsprop
from rarl.agents.episodic_memory import state_hashes
from rarl.runs import checkpoints
from tests import tiny_project

ACTIONS, TASKS, CAPACITY, K = 3, 3, 12, 4


class Plain:
    """What is done at once, in loops; over an agent, whose memories it has."""

    def _of(self, task, action):
        return self.memories[task if self.told else 0][action]

    def _near(self, memory, key):
        return np.argsort(((memory.keys.astype(float) - key) ** 2).sum(1))[:K].tolist()

    def look(self, x, tasks, *, use=True):
        keys, hashes = self.embed(x, tasks), state_hashes(x)
        q, used = np.zeros((len(x), ACTIONS), dtype=np.float32), {}
        for i, task in enumerate(tasks.tolist()):
            for action in range(ACTIONS):
                memory = self._of(task, action)
                there = memory.find([hashes[i]]).tolist()
                exact = isinstance(self, MFEC) and there != [-1]
                rows = there if exact else self._near(memory, keys[i])
                if rows:
                    weights = np.ones(len(rows))
                    if isinstance(self, NEC):
                        weights = 1 / (((memory.keys[rows].astype(float) - keys[i]) ** 2).sum(1) + 1e-3)
                    q[i, action] = (weights * memory.values[rows]).sum() / weights.sum()
                used.setdefault(memory, set()).update(rows)
        self._used(used if use else {})
        return Looked(q, keys, hashes)

    def _used(self, used):
        for memory, rows in used.items():
            if rows:
                memory.use(np.array(sorted(rows)))

    def write(self, tasks, actions, hashes, keys, returns):
        new, written = 0, {}
        for i, (task, action) in enumerate(zip(tasks.tolist(), actions.tolist(), strict=True)):
            written.setdefault(self._of(task, action), []).append(i)
        for memory, rows in written.items():
            new += memory.write([hashes[i] for i in rows], keys[rows], returns[rows], self.merge)
        return len(actions) - new

    def learn(self, x, tasks, actions, returns, learning_rate):
        queries, leaves, used, errors = self._encode(x, tasks), {}, {}, []
        for i, (task, action) in enumerate(zip(tasks.tolist(), actions.tolist(), strict=True)):
            memory, q = self._of(task, action), queries[i].sum() * 0
            if memory not in leaves:
                leaves[memory] = [torch.from_numpy(part.copy()).requires_grad_() for part in parts(memory)]
            rows = self._near(memory, queries[i].detach().numpy())
            if rows:
                keys, values = (leaf[rows] for leaf in leaves[memory])
                weights = 1 / ((queries[i] - keys).square().sum(-1) + 1e-3)
                q = (weights * values).sum() / weights.sum()
            used.setdefault(memory, set()).update(rows)
            errors.append((q - float(returns[i])) ** 2)
        self._used(used)
        loss = torch.stack(errors).mean()
        wanted = [*self._parameters, *(leaf for two in leaves.values() for leaf in two)]
        gradients = iter(torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True))
        for parameter, squares in zip(self._parameters, self._squares, strict=True):
            rmsprop(parameter, next(gradients), squares, learning_rate)
        for memory, two in leaves.items():
            rows, moved = sorted(used[memory]), []
            for leaf, squares in zip(two, (memory.key_squares, memory.value_squares), strict=True):
                some, averages = leaf.detach()[rows], torch.from_numpy(squares[rows])
                rmsprop(some, next(gradients)[rows], averages, learning_rate)
                squares[rows] = averages.numpy()
                moved.append(some.numpy())
            memory.move(np.array(rows, dtype=np.int64), *moved)
        return loss.item()


def parts(memory):
    return memory.keys, memory.values


def agent_of(root, variant, told, search, plain=False):
    changes = {
        "agent": {"task": "observed" if told else "hidden"},
        "episodic": {"capacity": CAPACITY, "neighbours": K, "learn_keys": variant == "nec", "search": search},
    }
    torch.manual_seed(0)
    kind = {"mfec": MFEC, "nec": NEC}[variant]
    kind = type("PlainAgent", (Plain, kind), {}) if plain else kind
    chosen = tiny_project.run_of(root, variant, changes=changes).settings
    return kind(chosen, ACTIONS, TASKS, *([11] if variant == "mfec" else []))


def boards(which):
    pool = np.random.default_rng(9).integers(0, 7, size=(60, 11)).astype(np.int8)
    pool[:, 4::3] = 0
    return pool[which]


def played(agent, rng, n):
    """Look, store and learn; everything that came out. Of the tasks and the actions the last is only asked about."""
    x, tasks = boards(rng.integers(60, size=n)), rng.integers(TASKS, size=n)
    looked = agent.look(x, tasks)
    unused = agent.look(x[::-1].copy(), tasks, use=False)
    tasks, actions, returns = tasks.clip(max=1), rng.integers(2, size=n), rng.normal(size=n).astype(np.float32)
    found = [looked.q, unused.q, agent.write(tasks, actions, looked.hashes, looked.keys, returns)]
    if isinstance(agent, NEC):
        # The same entry answers to two states, and to one that comes twice.
        which, asked = np.append(rng.integers(n, size=9), [0, 0]), np.append(rng.integers(TASKS, size=9), [0, 0])
        found.append(agent.learn(x[which], asked, actions[which], returns[which], 0.01))
    return found


def everything(agent):
    """All numbers of an agent; of when an entry was last used, only the order counts."""
    memories = [memory for of_task in agent.memories for memory in of_task]
    numbers = [part for memory in memories for part in parts(memory)]
    for memory in memories:
        state = memory.state_dict()
        numbers += [state["hashes"], np.unique(state["clock"], return_inverse=True)[1]]
        numbers += [state[name] for name in ("key_squares", "value_squares") if name in state]
    if isinstance(agent, NEC):
        numbers += [part.detach().numpy() for part in (*agent._parameters, *agent._squares)]
    return numbers


@pytest.mark.parametrize("variant", ["mfec", "nec"])
@pytest.mark.parametrize("told", [False, True])
@pytest.mark.parametrize("search", ["exact", "ivf"])
def test_it_is_as_if_one_memory_were_asked_at_a_time(tmp_path, monkeypatch, variant, told, search):
    """With memories that are empty, hold fewer than k entries, or are full; and exactly so after a resume."""
    torch.set_num_threads(1)
    monkeypatch.setattr(episodic_memory, "_INDEX_FROM", 6)
    monkeypatch.setattr(episodic_memory, "_SEARCHED_LISTS", 1)  # an index that looks everywhere
    tiny_project.write_config(tmp_path)
    one, other = (agent_of(tmp_path, variant, told, search, plain) for plain in (False, True))
    resumed, sizes = None, set()
    for step, n in enumerate([1, 4, 6, 12, 12, 16, 16, 16]):
        sizes |= {len(memory) for of_task in one.memories for memory in of_task}
        found, expected = (played(agent, np.random.default_rng(step), n) for agent in (one, other))
        for mine, plain in zip(found, expected, strict=True):
            np.testing.assert_allclose(mine, plain, rtol=1e-3, atol=1e-4)
        for mine, plain in zip(everything(one), everything(other), strict=True):
            np.testing.assert_allclose(mine, plain, rtol=1e-3, atol=1e-4)
        if resumed is not None:
            again = played(resumed, np.random.default_rng(step), n)
            assert all(np.array_equal(*pair) for pair in zip(again, found, strict=True))
            assert all(np.array_equal(*pair) for pair in zip(everything(resumed), everything(one), strict=True))
        if step == 4:
            checkpoints.save(tmp_path / "c.pt", one.state_dict(), checkpoints.Header("test"))
            resumed = agent_of(tmp_path, variant, told, search)
            resumed.load_state_dict(checkpoints.load(tmp_path / "c.pt").state)
    assert {0, CAPACITY} < sizes
    assert sizes & set(range(1, K))
    assert all((memory._index is not None) == (search == "ivf") for memory in one.memories[0][:2])
