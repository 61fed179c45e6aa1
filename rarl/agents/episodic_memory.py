"""What episodic control remembers of one action: states by their keys, with a value each.

MFEC calls it the buffer of an action (Blundell et al. 2016, section 2 and 4.1), NEC its differentiable neural
dictionary (Pritzel et al. 2017, sections 3.1 and 3.3). Neighbours are found by faiss.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Any

import faiss
import numpy as np
from jaxtyping import Float, Int, Shaped

HASH_BYTES = 16
_FIRST_ROWS = 1024  # arrays double from here on
_INDEX_FROM = 2_000  # entries; fewer are searched about as fast without an index
_SEARCHED_LISTS, _LEAST_LISTS = 1 / 16, 8  # share of an index's lists that a query looks into, and how many at least

# (values that are stored, new ones of the same states) -> those to be stored.
Values = Float[np.ndarray, " B"]
Rule = Callable[[Values, Values], Values]


def state_hashes(x: Shaped[np.ndarray, "B ..."]) -> list[bytes]:
    """Equal for equal states alone: states, each an array of one byte per number, as 16 bytes each.

    Short states stand for themselves; of others it is a BLAKE2b digest, for which two are never found to be alike.
    """
    rows = np.ascontiguousarray(x).reshape(len(x), -1)
    assert rows.itemsize == 1
    if rows.shape[1] <= HASH_BYTES:
        return [row.tobytes().ljust(HASH_BYTES, b"\0") for row in rows]
    return [blake2b(row.data, digest_size=HASH_BYTES).digest() for row in rows]


class EpisodicMemory:
    """Up to `capacity` states with a key and a value each; the least recently used ones make room for new ones.

    A state is recognised by its hash, never by the distance of keys, so that it has one entry however its key moves. An
    entry is used when it is written, and when it is part of an estimate (`use`): NEC overwrites "the item that has
    least recently shown up as a neighbour", MFEC "the least recently used state". What is done in one call is done at
    one time; of entries used at the same time, that of the lowest row makes room first.

    Args:
      d_key: width of keys.
      capacity: most entries.
      approximate: search by an inverted file of faiss (IVF), once it is worth one, and not through all keys.
      moments: keep running averages of squared gradients of keys and values (`key_squares`, `value_squares`).

    Attributes (views; row i belongs to entry i):
      keys, values: float32.
    """

    def __init__(self, d_key: int, capacity: int, *, approximate: bool = False, moments: bool = False):
        self.d_key, self.capacity, self.approximate = d_key, capacity, approximate
        self._n = 0
        self._rows: dict[bytes, int] = {}
        self._arrays: dict[str, np.ndarray] = {
            "keys": np.zeros((0, d_key), dtype=np.float32),
            "values": np.zeros(0, dtype=np.float32),
            "hashes": np.zeros((0, HASH_BYTES), dtype=np.uint8),
            "clock": np.zeros(0, dtype=np.int64),  # when an entry was last used
        }
        if moments:
            self._arrays["key_squares"] = np.zeros((0, d_key), dtype=np.float32)
            self._arrays["value_squares"] = np.zeros(0, dtype=np.float32)
        self._now = 0
        self._index: faiss.Index | None = None
        self._indexed, self._moved = 0, 0  # entries when the index was trained, and keys that were set since

    def __len__(self) -> int:
        return self._n

    @property
    def keys(self) -> Float[np.ndarray, "n d_key"]:
        return self._arrays["keys"][: self._n]

    @property
    def values(self) -> Float[np.ndarray, " n"]:
        return self._arrays["values"][: self._n]

    @property
    def key_squares(self) -> Float[np.ndarray, "n d_key"]:
        return self._arrays["key_squares"][: self._n]

    @property
    def value_squares(self) -> Float[np.ndarray, " n"]:
        return self._arrays["value_squares"][: self._n]

    # --- reading ------------------------------------------------------------------------------------------------------

    def find(self, hashes: Sequence[bytes]) -> Int[np.ndarray, " B"]:
        """The rows of the states with these hashes; -1: not stored."""
        rows = self._rows
        return np.fromiter((rows.get(name, -1) for name in hashes), dtype=np.int64, count=len(hashes))

    def nearest(self, keys: Float[np.ndarray, "B d_key"], k: int) -> Int[np.ndarray, "B _"]:
        """Rows of the k entries whose keys are nearest, nearest first; fewer if there are.

        The approximate search may miss some, and repeats the nearest where it finds fewer than k.
        """
        k = min(k, self._n)
        if not len(keys) or not k:
            return np.zeros((len(keys), k), dtype=np.int64)
        keys = np.ascontiguousarray(keys, dtype=np.float32)
        if self._index is None:
            rows: np.ndarray = faiss.knn(keys, self.keys, k)[1]
            return rows
        found = self._index.search(keys, k)[1]
        return np.where(found < 0, np.maximum(found[:, :1], 0), found)

    def use(self, rows: Int[np.ndarray, "*b"]) -> None:
        """These entries are used now."""
        self._now += 1
        self._arrays["clock"][rows] = self._now

    # --- writing ------------------------------------------------------------------------------------------------------

    def write(
        self, hashes: Sequence[bytes], keys: Float[np.ndarray, "B d_key"], values: Float[np.ndarray, " B"], rule: Rule
    ) -> int:
        """Store states, in order; the number of states that were not there.

        A new state takes a row of its own. One that is there, also from earlier in the same call, gets the value that
        `rule` makes of the stored and the new one, and the new key. Entries that are written in one call do not make
        room for each other: of more new states than rows the last ones stay.

        Args:
          hashes: B of them, `state_hashes`.
          keys, values: of the states.
          rule: elementwise.
        """
        self._now += 1
        places: dict[bytes, int] = {}
        place = np.fromiter((places.setdefault(name, len(places)) for name in hashes), dtype=np.int64)
        rows = self.find(list(places))
        new = np.flatnonzero(rows < 0)
        self._arrays["clock"][rows[rows >= 0]] = self._now
        there = len(rows) - len(new)
        kept = new[max(len(new) - (self.capacity - there), 0) :]
        rows[kept] = self._make_room(len(kept))
        distinct = list(places)
        for i in kept.tolist():
            self._rows[distinct[i]] = int(rows[i])
        self._arrays["hashes"][rows[kept]] = np.frombuffer(
            b"".join(distinct[i] for i in kept.tolist()), dtype=np.uint8
        ).reshape(-1, HASH_BYTES)
        self._arrays["clock"][rows[kept]] = self._now
        for name in self._arrays.keys() & {"key_squares", "value_squares"}:
            self._arrays[name][rows[kept]] = 0

        at, stored = rows[place], np.zeros(self._n, dtype=bool)
        stored[rows[rows >= 0]] = True
        stored[rows[kept]] = False
        everything, values = self.values, np.asarray(values, dtype=np.float32)
        for turn in _turns(place):  # each state once in a turn, those that come twice again in the next
            turn = turn[at[turn] >= 0]
            row = at[turn]
            known = stored[row]
            everything[row[~known]] = values[turn[~known]]
            everything[row[known]] = rule(everything[row[known]], values[turn[known]])
            stored[row] = True
            self.keys[row] = keys[turn]
        self._moved_keys(rows[rows >= 0])
        return len(new)

    def move(
        self, rows: Int[np.ndarray, " B"], keys: Float[np.ndarray, "B d_key"], values: Float[np.ndarray, " B"]
    ) -> None:
        """Other keys and values for entries, each once."""
        self.keys[rows], self.values[rows] = keys, values
        self._moved_keys(rows)

    def _make_room(self, n: int) -> np.ndarray:
        """Rows for n new entries: free ones, then those of the least recently used, which are forgotten."""
        free = np.arange(self._n, min(self._n + n, self.capacity))
        lost = np.zeros(0, dtype=np.int64)
        if len(free) < n:
            # The row as the last digits of the time, so that no two are equal.
            time = self._arrays["clock"][: self._n] * self.capacity + np.arange(self._n)
            lost = np.argpartition(time, n - len(free) - 1)[: n - len(free)]
            lost = lost[np.argsort(time[lost])]
            for row in lost.tolist():
                del self._rows[self._arrays["hashes"][row].tobytes()]
        self._n += len(free)
        self._grow()
        return np.concatenate([free, lost])

    def _grow(self) -> None:
        rows = len(self._arrays["values"])
        if self._n <= rows:
            return
        rows = min(max(2 * rows, self._n, _FIRST_ROWS), self.capacity)
        for name, old in self._arrays.items():
            self._arrays[name] = np.zeros((rows, *old.shape[1:]), dtype=old.dtype)
            self._arrays[name][: len(old)] = old

    # --- index --------------------------------------------------------------------------------------------------------

    def _moved_keys(self, rows: np.ndarray) -> None:
        """The keys of these rows, each once, are new: the index follows.

        It is trained anew when as many keys have been set as it was trained on: while the memory grows, at twice the
        entries each time; when it is full, once all may have changed.
        """
        if not self.approximate or self._n < _INDEX_FROM:
            return
        self._moved += len(rows)
        if self._index is None or self._moved >= self._indexed:
            self._train()
            return
        known = self._index.ntotal
        old = np.ascontiguousarray(rows[rows < known])
        if len(old):
            self._index.update_vectors(old, self.keys[old])
        if known < self._n:
            self._index.add(self.keys[known:])

    def _train(self) -> None:
        lists = int(self._n**0.5)
        self._index = faiss.IndexIVFFlat(faiss.IndexFlatL2(self.d_key), self.d_key, lists)
        self._index.train(self.keys)
        self._index.set_direct_map_type(faiss.DirectMap.Array)  # type: ignore[attr-defined]
        self._index.add(self.keys)
        self._index.nprobe = max(int(lists * _SEARCHED_LISTS), _LEAST_LISTS)
        self._indexed, self._moved = self._n, 0

    # --- state --------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything; the index byte by byte, since how it came about decides in which lists it looks."""
        return {
            **{name: array[: self._n].copy() for name, array in self._arrays.items()},
            "now": self._now,
            "index": None if self._index is None else faiss.serialize_index(self._index),
            "indexed": self._indexed,
            "moved": self._moved,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._arrays = {name: state[name].copy() for name in self._arrays}
        self._n = len(self._arrays["values"])
        self._rows = {name.tobytes(): row for row, name in enumerate(self._arrays["hashes"])}
        self._now, self._indexed, self._moved = state["now"], state["indexed"], state["moved"]
        self._index = None if state["index"] is None else faiss.deserialize_index(state["index"])

    def final_state_dict(self) -> dict[str, np.ndarray]:
        """What estimates are made of."""
        return {name: self._arrays[name][: self._n].copy() for name in ("keys", "values", "hashes")}


def _turns(place: np.ndarray) -> list[np.ndarray]:
    """Positions in `place` (B,): those of each number's first appearance, those of its second, and so on."""
    order = np.argsort(place, kind="stable")
    begins = np.flatnonzero(np.diff(place[order], prepend=-1))
    turn = np.arange(len(place)) - np.repeat(begins, np.diff(begins, append=len(place)))
    return [np.sort(order[turn == i]) for i in range(int(turn.max(initial=-1)) + 1)]
