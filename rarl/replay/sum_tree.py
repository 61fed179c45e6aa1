"""Drawing in proportion to priorities: a binary tree of sums, in whole-array operations."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int


class SumTree:
    """`capacity` weights, each to be drawn in proportion; setting and drawing take O(log capacity).

    Node 1 is the root, the children of node i are 2i and 2i + 1, and the weights are the leaves. A node is always
    computed as the sum of its two children, never by adding a difference, so errors do not add up, and the tree is a
    function of its weights alone. In float64: in float32 drawing can end at a weight of 0.

    Args:
      capacity: number of weights, all 0 at first.
    """

    def __init__(self, capacity: int):
        self.capacity = capacity
        self._levels = max(capacity - 1, 0).bit_length()
        self._first_leaf = 1 << self._levels
        self._nodes = np.zeros(2 * self._first_leaf, dtype=np.float64)

    @property
    def total(self) -> float:
        """The sum of all weights."""
        return float(self._nodes[1])

    @property
    def weights(self) -> Float[np.ndarray, " {self.capacity}"]:
        """A view: not to be written to."""
        weights = self._nodes[self._first_leaf : self._first_leaf + self.capacity]
        weights.flags.writeable = False
        return weights

    def set(self, indices: Int[np.ndarray, " B"], weights: Float[np.ndarray, " B"]) -> None:
        """Set the weights, finite and not negative, at these indices; of equal indices the last counts."""
        nodes = indices + self._first_leaf
        self._nodes[nodes] = weights
        if len(nodes) == 1:  # as new windows come, where array operations would take ten times as long
            node = int(nodes[0])
            while node > 1:
                node >>= 1
                self._nodes[node] = self._nodes[2 * node] + self._nodes[2 * node + 1]
            return
        for _ in range(self._levels):
            nodes >>= 1
            self._nodes[nodes] = self._nodes[2 * nodes] + self._nodes[2 * nodes + 1]

    def find(self, mass: Float[np.ndarray, " B"]) -> Int[np.ndarray, " B"]:
        """The index at which the running sum of the weights first exceeds `mass`.

        Args:
          mass: in [0, total); the total must be above 0.

        Returns:
          The weight there is above 0, whatever the rounding.
        """
        left = np.ones(len(mass), dtype=np.int64)
        mass = np.array(mass, dtype=np.float64)
        for _ in range(self._levels):
            left <<= 1
            weight = self._nodes[left]
            # Sums are rounded: what is left of the mass may reach the right side's own sum, which may be 0.
            right = (mass >= weight) & (self._nodes[left + 1] > 0)
            mass -= np.where(right, weight, 0.0)
            left += right
        return left - self._first_leaf

    def sample(self, size: int, rng: np.random.Generator) -> Int[np.ndarray, " {size}"]:
        """Draw indices with replacement, one from each of `size` equal parts of the total.

        The total must be above 0. Advances `rng` by `size` doubles.
        """
        return self.find((np.arange(size) + rng.random(size)) * (self.total / size))
