"""epsilon-greedy play by one network: the only place where an agent with a Q-network chooses its actions."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped

from rarl.agents.exploration import explore
from rarl.nn.retrieval import Summaries
from rarl.nn.value_network import State, Unrolled, ValueNetwork


class Policy:
    """epsilon-greedy play of n actors by one network, each with a recurrent state of its own.

    Its random numbers come from `rng` alone, so that it may run beside a learner that draws from torch's generator.

    Args:
      network: read, never written to.
      epsilons: probabilities of a random action.
      rng: source of randomness.
      context: what the actors are told, as long as `begin` tells nothing else: ids of their tasks. None: 0.
      places: which actors, m each, read which of R retrieval batches; None: n / R in a row.

    Attributes:
      q: values of the last call.
      unrolled: what the network gave in the last call, for R groups of actors (`places`); of a call for some of them
        alone, for as many groups as those are of.
    """

    q: Float[np.ndarray, "n n_actions"]

    def __init__(
        self,
        network: ValueNetwork,
        epsilons: Float[np.ndarray, " n"],
        rng: np.random.Generator,
        context: Shaped[np.ndarray, "n ..."] | None = None,
        places: Int[np.ndarray, "R m"] | None = None,
    ):
        self.network, self.epsilons, self.rng = network, np.asarray(epsilons), rng
        n = len(self.epsilons)
        self.device = next(network.parameters()).device
        self.q = np.zeros((n, 0), dtype=np.float32)
        self._context = _as_input(np.zeros(n, dtype=np.int64) if context is None else context)
        self._places = places
        with torch.no_grad():
            start = network.initial_state(1, n)
        self._state = start.map(lambda part: part.expand(1, n, *part.shape[2:]))
        self._carries = any(part is not None for part in start)
        nothing = torch.zeros(1, n, 1, 0)
        self.unrolled = Unrolled(nothing, self._state, None, nothing)
        self._stream = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None
        self.retrieved = None

    @property
    def retrieved(self) -> Summaries | None:
        """What the actors retrieve from: R retrieval batches; None: nothing.

        Set it, if need be to what it was, when the network has changed: on a GPU the next call then waits for that.
        """
        return self._retrieved

    @retrieved.setter
    def retrieved(self, retrieved: Summaries | None) -> None:
        self._retrieved = retrieved
        self._part: tuple[bytes, Summaries | None] = (b"", None)
        self._catch_up()

    @property
    def places(self) -> Int[np.ndarray, "R m"]:
        """Which actors read which retrieval batch."""
        if self._places is not None:
            return self._places
        groups = 1 if self._retrieved is None else len(self._retrieved.keys)
        return np.arange(len(self.epsilons)).reshape(groups, -1)

    def begin(self, first: Bool[np.ndarray, " n"], context: Shaped[np.ndarray, "n ..."] | None = None) -> None:
        """Forget the past of actors whose episode begins.

        Args:
          first: which.
          context: what all actors are told about their episodes; None: as before.
        """
        if context is not None:
            self._context = _as_input(context)
        if not self._carries or not first.any():
            return
        with self._apart():
            begins = torch.from_numpy(first).to(self.device)
            self._state = self._state.map(
                lambda part, fresh: torch.where(begins.view(1, -1, *[1] * (part.dim() - 2)), fresh, part),
                self.network.initial_state(1, len(first)),
            )

    @property
    def state(self) -> dict[str, np.ndarray]:
        """The recurrent state of each actor: core (n, d_s), slots (n, n_f, d_m), those that there are."""
        with self._apart():
            parts = self._state._asdict().items()
            return {name: part[0].cpu().numpy().copy() for name, part in parts if part is not None}

    def __call__(
        self,
        x: Shaped[np.ndarray, "n ..."],
        playing: Bool[np.ndarray, " n"] | None = None,
        keep_attention: bool = False,
    ) -> Int[np.ndarray, " n"]:
        """Actions.

        Args:
          x: what is to be acted upon.
          playing: whose actions matter; None: all. The network may leave the others out.
          keep_attention: see `ValueNetwork.unroll`.
        """
        places, groups = self.places, None
        if playing is not None and not playing.all():
            places, groups = _those_playing(places, playing)
        with self._apart():
            rows = torch.from_numpy(places).to(self.device)
            state = self._state.map(lambda part: part[0][rows])
            self.unrolled = self.network.unroll(
                torch.from_numpy(x[places]).to(self.device)[:, :, None],
                torch.from_numpy(self._context[places]).to(self.device)[:, :, None],
                state if self._carries else None,
                self._of_groups(groups),
                keep_attention=keep_attention,
            )
            if self._carries:
                at = rows.flatten()
                self._state = self._state.map(
                    lambda old, new: old.index_copy(1, at, new.flatten(0, 1)[None]), self.unrolled.state
                )
            q = self.unrolled.q[:, :, 0].float().cpu().numpy()
        if self.q.shape[1] != q.shape[-1]:
            self.q = np.zeros((len(self.epsilons), q.shape[-1]), dtype=np.float32)
        self.q[places] = q
        return explore(self.q.argmax(1), self.q.shape[1], self.epsilons, self.rng)

    def _of_groups(self, groups: np.ndarray | None) -> Summaries | None:
        """The retrieval batches of some groups (R',), kept as long as they are the same."""
        if self._retrieved is None or groups is None or len(groups) == len(self._retrieved.keys):
            return self._retrieved
        key = groups.tobytes()
        if self._part[0] != key:
            rows = torch.from_numpy(groups).to(self.device)
            self._part = key, self._retrieved.map(lambda part: part[rows])
        return self._part[1]

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
        if self._carries:
            parts = {name: torch.from_numpy(array).to(self.device)[None] for name, array in state["state"].items()}
            self._state = State(parts.get("core"), parts.get("slots"))
            self._catch_up()


def _as_input(context: np.ndarray) -> np.ndarray:
    """Codes, which are embedded, as int64; numbers as they are."""
    context = np.asarray(context)
    return context.astype(np.int64) if context.dtype.kind in "iub" else context


def _those_playing(places: np.ndarray, playing: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of places (R, n / R) those groups in which somebody plays, cut to the most who do: (R', m), and which (R',).

    Who does not play fills the rows of the others up.
    """
    going = playing[places]
    groups = np.flatnonzero(going.any(1))
    going = going[groups]
    order = np.argsort(~going, axis=1, kind="stable")[:, : going.sum(1).max(initial=0)]
    return np.take_along_axis(places[groups], order, axis=1), groups
