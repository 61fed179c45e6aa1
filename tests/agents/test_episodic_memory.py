"""The memory of episodic control, against a slow and literal reading of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rarl.agents import episodic_memory
from rarl.agents.episodic_memory import HASH_BYTES, EpisodicMemory, state_hashes
from rarl.runs import checkpoints

KEYS = np.random.default_rng(0).standard_normal((2, 10, 3)).astype(np.float32)  # two for each of ten states


def name(state):
    return bytes([state]).ljust(HASH_BYTES, b"\0")


def tabular(stored, new):
    return stored + np.float32(0.5) * (new - stored)


RULES = {"max": np.maximum, "tabular": tabular}


class Slow:
    """Entry by entry: state -> [row, key, value, when it was last used]."""

    def __init__(self, capacity, rule):
        self.capacity, self.rule, self.entries, self.now = capacity, rule, {}, 0

    def use(self, states):
        self.now += 1
        for state in states:
            self.entries[state][3] = self.now

    def write(self, batch):
        self.now += 1
        new = []
        for state, _, _ in batch:
            if state in self.entries:
                self.entries[state][3] = self.now
            elif state not in new:
                new.append(state)
        there = len({state for state, _, _ in batch if state in self.entries})
        for state in new[max(len(new) - (self.capacity - there), 0) :]:
            row = len(self.entries)
            if row == self.capacity:
                oldest = min(self.entries, key=lambda other: (self.entries[other][3], self.entries[other][0]))
                row = self.entries.pop(oldest)[0]
            self.entries[state] = [row, None, None, self.now]
        for state, key, value in batch:
            if state in self.entries:
                old = self.entries[state][2]
                self.entries[state][1] = key
                self.entries[state][2] = value if old is None else self.rule(old, value)
        return len(new)


STATES = st.integers(0, 9)
VALUES = st.integers(-8, 8).map(np.float32)
BATCHES = st.lists(st.tuples(STATES, st.integers(0, 1), VALUES), min_size=1, max_size=8)


@settings(max_examples=120)
@given(
    capacity=st.integers(1, 6),
    rule=st.sampled_from(list(RULES)),
    operations=st.lists(st.one_of(BATCHES, st.lists(STATES, min_size=1, max_size=3)), max_size=8),
)
def test_it_is_the_slow_one(capacity, rule, operations):
    memory, slow = EpisodicMemory(3, capacity), Slow(capacity, RULES[rule])
    for operation in operations:
        if isinstance(operation[0], tuple):
            batch = [(state, KEYS[version, state], value) for state, version, value in operation]
            hashes, keys = [name(state) for state, _, _ in batch], np.stack([key for _, key, _ in batch])
            values = np.array([value for *_, value in batch])
            assert memory.write(hashes, keys, values, RULES[rule]) == slow.write(batch)
        else:
            there = [state for state in operation if state in slow.entries]
            memory.use(memory.find([name(state) for state in there]))
            slow.use(there)
        assert len(memory) == len(slow.entries) <= capacity
        rows = memory.find([name(state) for state in range(10)])
        assert rows.tolist() == [slow.entries.get(state, [-1])[0] for state in range(10)]
        for row, key, value, _ in slow.entries.values():
            assert (memory.keys[row] == key).all()
            assert memory.values[row] == value
        for k in (1, 3):
            found = memory.nearest(KEYS[0] + np.float32(0.1), k)
            assert found.shape == (10, min(k, len(memory)))
            distances = ((KEYS[0][:, None] + np.float32(0.1) - memory.keys) ** 2).sum(-1)
            assert (found == np.argsort(distances, axis=1)[:, :k]).all()


def filled(states, capacity=3):
    memory = EpisodicMemory(3, capacity)
    for state in states:
        memory.write([name(state)], KEYS[0, [state]], np.array([float(state)]), np.maximum)
    return memory


def there(memory):
    return {state for state in range(10) if memory.find([name(state)])[0] >= 0}


def test_the_least_recently_used_entry_makes_room():
    memory = filled([0, 1, 2, 3])
    assert there(memory) == {1, 2, 3}
    memory.use(memory.find([name(1)]))  # read
    memory.write([name(2)], KEYS[0, [2]], np.zeros(1), np.maximum)  # written again
    memory.write([name(4)], KEYS[0, [4]], np.zeros(1), np.maximum)
    assert there(memory) == {1, 2, 4}


def test_what_is_written_in_one_call_does_not_make_room_for_each_other():
    memory = filled([0, 1, 2])
    states = [2, 5, 6, 7]
    memory.write([name(state) for state in states], KEYS[0, states], np.zeros(4), np.maximum)
    assert there(memory) == {2, 6, 7}  # 5 was one too many


def test_lookups_of_nothing_and_in_nothing():
    memory = EpisodicMemory(3, 4)
    assert memory.nearest(KEYS[0], 2).shape == (10, 0)
    assert memory.find([name(0)]).tolist() == [-1]
    assert filled([1]).nearest(KEYS[0, :0], 2).shape == (0, 1)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("size", [3, 16, 17, 500])
def test_hashes_tell_states_apart(dtype, size):
    x = np.random.default_rng(0).integers(-2 if dtype == np.int8 else 0, 3, size=(40, size)).astype(dtype)
    x[1::4] = x[::4]
    hashes = state_hashes(x)
    assert all(len(one) == HASH_BYTES for one in hashes)
    for i in range(40):
        for j in range(40):
            assert (hashes[i] == hashes[j]) == bool((x[i] == x[j]).all())


# --------------------------------------------------------------------------------------------------- approximate search


@pytest.fixture
def early_index(monkeypatch):
    monkeypatch.setattr(episodic_memory, "_INDEX_FROM", 300)
    monkeypatch.setattr(episodic_memory, "_LEAST_LISTS", 3)


def written(memory, rng, n, states=3000):
    chosen = rng.integers(states, size=n)
    hashes = [int(state).to_bytes(HASH_BYTES, "little") for state in chosen]
    memory.write(hashes, rng.standard_normal((n, 3)).astype(np.float32), rng.random(n), np.maximum)


@pytest.mark.filterwarnings("error")
@pytest.mark.usefixtures("early_index")
def test_an_index_that_looks_everywhere_finds_what_the_exact_search_does(monkeypatch):
    """While entries come, change their keys, and make room for others."""
    monkeypatch.setattr(episodic_memory, "_SEARCHED_LISTS", 1)
    one, other = (EpisodicMemory(3, 600, approximate=approximate) for approximate in (True, False))
    sizes = set()
    for step in range(30):
        for memory in (one, other):
            rng = np.random.default_rng(step)
            written(memory, rng, 60)
            rows = rng.choice(len(memory), 5, replace=False)
            memory.move(rows, rng.standard_normal((5, 3)).astype(np.float32), np.zeros(5))
        assert (one.keys == other.keys).all()
        queries = np.random.default_rng(100 + step).standard_normal((20, 3)).astype(np.float32)
        assert (one.nearest(queries, 7) == other.nearest(queries, 7)).all()
        sizes.add(0 if one._index is None else one._index.ntotal)
    assert {0, 600} < sizes


@pytest.mark.usefixtures("early_index")
def test_an_index_finds_most():
    one, other = (EpisodicMemory(3, 2000, approximate=approximate) for approximate in (True, False))
    for memory in (one, other):
        written(memory, np.random.default_rng(0), 2000)
    assert one._index.nprobe < one._index.nlist / 2
    queries = np.random.default_rng(1).standard_normal((200, 3)).astype(np.float32)
    pairs = zip(one.nearest(queries, 5), other.nearest(queries, 5), strict=True)
    shares = [len(set(found.tolist()) & set(right.tolist())) / 5 for found, right in pairs]
    assert 0.8 < np.mean(shares) < 1


# ---------------------------------------------------------------------------------------------------------------- state


@pytest.mark.parametrize("approximate", [False, True])
@pytest.mark.usefixtures("early_index")
def test_it_goes_on_from_its_saved_state(approximate, tmp_path):
    options = {"approximate": approximate, "moments": True}
    one, other = EpisodicMemory(3, 500, **options), EpisodicMemory(3, 500, **options)
    for step in range(8):
        written(one, np.random.default_rng(step), 100)
    one.key_squares[:] = 3
    written(other, np.random.default_rng(50), 10)  # whatever it did before
    checkpoints.save(tmp_path / "c.pt", one.state_dict(), checkpoints.Header("test"))
    other.load_state_dict(checkpoints.load(tmp_path / "c.pt").state)
    assert (one._index is not None) == approximate
    for step in range(10):
        queries = np.random.default_rng(step).standard_normal((10, 3)).astype(np.float32)
        found = [memory.nearest(queries, 4) for memory in (one, other)]
        assert (found[0] == found[1]).all()
        for memory in (one, other):
            memory.use(found[0])
            written(memory, np.random.default_rng(20 + step), 100)
        states = one.state_dict(), other.state_dict()
        for part, value in states[0].items():
            assert np.array_equal(value, states[1][part]), part
    assert (one.key_squares == 0).any()  # of new entries
    assert (one.key_squares == 3).any()
