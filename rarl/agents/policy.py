"""epsilon-greedy play by one network."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from rarl.agents.exploration import explore
from rarl.nn.retrieval import Summaries
from rarl.nn.value_network import State, ValueNetwork


def _in_groups(state: State, groups: int) -> State:
    """The state of the same actors in order, as so many groups."""
    return State(*(None if part is None else part.flatten(0, 1).unflatten(0, (groups, -1)) for part in state))


class Policy:
    """epsilon-greedy play of n actors by one network, each with a recurrent state of its own.

    Its random numbers come from `rng` alone, so that it may run beside a learner that draws from torch's generator.

    Args:
      network: read, never written to.
      epsilons: (n,) probabilities of a random action.
      rng: source of randomness.

    Attributes:
      q: (n, n_actions) float32, values of the last call.
    """

    def __init__(self, network: ValueNetwork, epsilons: np.ndarray, rng: np.random.Generator):
        self.network, self.epsilons, self.rng = network, np.asarray(epsilons), rng
        self.device = next(network.parameters()).device
        self.q = np.zeros((len(self.epsilons), 0), dtype=np.float32)
        self._state: State | None = None
        if network.core is not None:
            with torch.no_grad():
                core, slots = network.initial_state(1, len(self.epsilons))
            self._state = State(core, None if slots is None else slots.expand(1, len(self.epsilons), -1, -1))
        self._stream = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None
        self.retrieved = None

    @property
    def retrieved(self) -> Summaries | None:
        """What the actors retrieve from: R retrieval batches, each for n / R actors in a row; None: nothing.

        Set it, if need be to what it was, when the network has changed: on a GPU the next call then waits for that.
        """
        return self._retrieved

    @retrieved.setter
    def retrieved(self, retrieved: Summaries | None) -> None:
        self._retrieved = retrieved
        self._catch_up()

    def begin(self, first: np.ndarray) -> None:
        """Forget the past of actors whose episode begins: first (n,) bool."""
        if self._state is None or not first.any():
            return
        with self._apart():
            begins = torch.from_numpy(first).to(self.device)[None, :, None]
            fresh, old = self.network.initial_state(1, len(first)), self._state
            slots = None if old.slots is None else torch.where(begins[..., None], fresh.slots, old.slots)
            self._state = State(torch.where(begins, fresh.core, old.core), slots)

    @property
    def state(self) -> dict[str, np.ndarray]:
        """The recurrent state of each actor: core (n, d_s), slots (n, n_f, d_m), those that there are."""
        if self._state is None:
            return {}
        with self._apart():
            parts = self._state._asdict().items()
            return {name: part[0].cpu().numpy().copy() for name, part in parts if part is not None}

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """x (n, bytes) uint8 -> actions (n,) int64."""
        with self._apart():
            groups = 1 if self.retrieved is None else len(self.retrieved.keys)
            inputs = torch.from_numpy(x).to(self.device).unflatten(0, (groups, -1))
            state = None if self._state is None else _in_groups(self._state, groups)
            unrolled = self.network.unroll(inputs[:, :, None], None, state, self.retrieved)
            if self._state is not None:
                self._state = _in_groups(unrolled.state, 1)
            self.q = unrolled.q[:, :, 0].flatten(0, 1).float().cpu().numpy()
        return explore(self.q.argmax(1), self.q.shape[1], self.epsilons, self.rng)

    @contextlib.contextmanager
    def _apart(self) -> Iterator[None]:
        """Without gradients; on a GPU in a stream of its own, so that playing and learning overlap."""
        with torch.no_grad():
            if self._stream is None:
                yield
                return
            with torch.cuda.stream(self._stream):
                yield

    def _catch_up(self) -> None:
        """What comes in this policy's stream comes after all that was asked of the GPU so far."""
        if self._stream is not None:
            self._stream.wait_stream(torch.cuda.default_stream(self.device))

    def state_dict(self) -> dict[str, Any]:
        return {"rng": self.rng.bit_generator.state, "state": self.state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.rng.bit_generator.state = state["rng"]
        if self._state is not None:
            parts = {name: torch.from_numpy(array).to(self.device)[None] for name, array in state["state"].items()}
            self._state = State(parts["core"], parts.get("slots"))
            self._catch_up()
