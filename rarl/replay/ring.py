"""A ring of rows: the last so many, for replays of single states."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

from rarl.errors import RarlError


class Replayed(NamedTuple):
    """B states."""

    x: Shaped[np.ndarray, "B ..."]
    tasks: Int[np.ndarray, " B"]
    actions: Int[np.ndarray, " B"]
    returns: Float[np.ndarray, " B"]


class Ring:
    """The last `capacity` rows of some columns.

    Args:
      capacity: rows.
      columns: name -> (shape of a row, dtype).
    """

    def __init__(self, capacity: int, columns: Mapping[str, tuple[tuple[int, ...], Any]]):
        if capacity < 1:
            raise RarlError(f"capacity={capacity}: must be at least 1")
        self.capacity = capacity
        self._columns = {name: np.zeros((capacity, *shape), dtype=dtype) for name, (shape, dtype) in columns.items()}
        self._added = 0

    def __len__(self) -> int:
        return min(self._added, self.capacity)

    def add(self, **columns: Shaped[np.ndarray, "B ..."]) -> dict[str, Shaped[np.ndarray, "gone ..."]]:
        """Rows of every column, oldest first; returns the rows that they take the place of.

        Of more rows than there is room for, the last ones are added.
        """
        columns = {name: column[-self.capacity :] for name, column in columns.items()}
        n = len(next(iter(columns.values())))
        places = (self._added + np.arange(n)) % self.capacity
        taken = places[max(self.capacity - self._added, 0) :]
        before = {name: column[taken].copy() for name, column in self._columns.items()}
        for name, column in self._columns.items():
            column[places] = columns[name]
        self._added += n
        return before

    def sample(self, n: int, rng: np.random.Generator) -> dict[str, Shaped[np.ndarray, "{n} ..."]]:
        """n rows, uniformly, with replacement."""
        rows = rng.integers(len(self), size=n)
        return {name: column[rows] for name, column in self._columns.items()}

    def state_dict(self) -> dict[str, Any]:
        return {
            "added": self._added,
            "columns": {name: column[: len(self)].copy() for name, column in self._columns.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._added = state["added"]
        for name, column in self._columns.items():
            column[: len(self)] = state["columns"][name]
