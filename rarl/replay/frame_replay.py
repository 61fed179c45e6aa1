"""Replay of single states, whose frames are stored once each, for NEC (section 3.4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from rarl.replay.codec import Codec
from rarl.replay.frames import FrameStore
from rarl.replay.ring import Replayed, Ring

_BLOCK = 20  # frames that are compressed together


class FrameReplay:
    """The last `capacity` states of finished episodes; an episode's frames stay as long as one of its states does.

    Args:
      capacity: states.
      tasks: which task each actor plays.
      codec: how states are kept.
      compression: of frames, zlib's level; 0: none.
    """

    def __init__(self, capacity: int, tasks: Int[np.ndarray, " n"], codec: Codec, compression: int):
        self.codec, self._tasks, actors = codec, tasks, len(tasks)
        one = ((), np.int64)
        self._ring = Ring(
            capacity, {"episode": one, "step": one, "tasks": one, "actions": one, "returns": ((), np.float32)}
        )
        self._store = FrameStore(codec.frame_shape, _BLOCK, compression)
        self._played: list[list[int]] = [[] for _ in range(actors)]  # blocks of the episodes on their way
        self._steps = np.zeros(actors, dtype=np.int64)
        self._blocks: dict[int, list[int]] = {}  # by episode
        self._left: dict[int, int] = {}  # states that are in the ring
        self._next = 0

    def __len__(self) -> int:
        return len(self._ring)

    def see(self, frames: UInt8[np.ndarray, "n ..."]) -> None:
        """The newest frames of the states in which the actors act next."""
        for actor, frame in enumerate(frames):
            if self._steps[actor] % _BLOCK == 0:
                self._played[actor].append(self._store.open())
            self._store.append(self._played[actor][-1], frame)
            self._steps[actor] += 1

    def end(self, actor: int, actions: Int[np.ndarray, " T"], returns: Float[np.ndarray, " T"]) -> None:
        """An actor's episode has ended; actions and returns of all T states seen."""
        steps = int(self._steps[actor])
        assert len(actions) == len(returns) == steps
        blocks, episode = self._played[actor], self._next
        self._store.seal(blocks[-1])
        self._played[actor], self._steps[actor], self._next = [], 0, episode + 1
        self._blocks[episode], self._left[episode] = blocks, min(steps, self._ring.capacity)
        columns = {
            "episode": np.full(steps, episode),
            "step": np.arange(steps),
            "tasks": np.full(steps, self._tasks[actor]),
            "actions": actions,
            "returns": returns,
        }
        gone, how_many = np.unique(self._ring.add(**columns)["episode"], return_counts=True)
        for number, n in zip(gone.tolist(), how_many.tolist(), strict=True):
            self._left[number] -= n
            if not self._left[number]:
                del self._left[number]
                self._store.release(self._blocks.pop(number))

    def sample(self, n: int, rng: np.random.Generator) -> Replayed:
        """n states, uniformly; x without what it says of the step before."""
        drawn = self._ring.sample(n, rng)
        stack = self.codec.stack
        frames = np.zeros((n, stack, *self.codec.frame_shape), dtype=np.uint8)
        for i, (episode, step) in enumerate(zip(drawn["episode"].tolist(), drawn["step"].tolist(), strict=True)):
            first = max(step - stack + 1, 0)
            begin, offset = divmod(first, _BLOCK)
            self._store.read(self._blocks[episode][begin:], offset, frames[i, stack - (step - first + 1) :])
        nothing = np.zeros(n, dtype=np.int64)
        x = self.codec.restore(frames, nothing, nothing)
        return Replayed(x, drawn["tasks"], drawn["actions"], drawn["returns"])

    def state_dict(self) -> dict[str, Any]:
        def arrays(blocks: list[list[int]]) -> list[np.ndarray]:
            return [np.array(some, dtype=np.int64) for some in blocks]

        return {
            "ring": self._ring.state_dict(),
            "store": self._store.state_dict(),
            "played": arrays(self._played),
            "steps": self._steps.copy(),
            "episodes": np.array(list(self._blocks), dtype=np.int64),
            "blocks": arrays(list(self._blocks.values())),
            "left": np.array(list(self._left.values()), dtype=np.int64),
            "next": self._next,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._ring.load_state_dict(state["ring"])
        self._store.load_state_dict(state["store"])
        self._played = [blocks.tolist() for blocks in state["played"]]
        self._steps = state["steps"].copy()
        episodes = state["episodes"].tolist()
        self._blocks = {number: blocks.tolist() for number, blocks in zip(episodes, state["blocks"], strict=True)}
        self._left = dict(zip(episodes, state["left"].tolist(), strict=True))
        self._next = state["next"]
