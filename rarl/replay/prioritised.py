"""Prioritised replay of sequences, for recurrent agents that learn while they play.

Actors hand in their episodes step by step; `rarl.replay.windows` cuts them into overlapping windows, whose frames lie
once each, compressed, in `rarl.replay.frames`. The newest windows are kept, the oldest dropped one by one. A draw
brings windows to learn from, by priority, and others to retrieve from, which never overlap with the former.

Memory of 100,000 windows of 84 x 84 frames, trace 80, period 40:

- Frames. A long episode adds 40 for every window, so 4 million are held: 28 GB without compression, with it 0.3 to
  5.8 GB by game (72 to 1438 bytes a frame in the 57 games, half of them below 210, played at random). At worst, with
  episodes of exactly 80 steps, nothing is shared: 81 frames a window, twice that.
- All else. 6 bytes a step and 90 a window (57 MB), the recurrent states at 4 bytes a number (205 MB for 512), and 0.4
  kB of bookkeeping for each block of frames (90 MB).

A draw of 512 windows takes 0.36 s of one core, nearly all of it decompression (0.06 s without compression).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped, UInt8

from rarl.errors import RarlError
from rarl.mappings import differences
from rarl.replay.frames import FrameStore
from rarl.replay.sum_tree import SumTree
from rarl.replay.windows import NOTHING_KNOWN, Window, WindowCutter

LEAST_PRIORITY = 1e-6  # so that a window without an error can still be drawn
FIRST_PRIORITY = 1.0  # of new windows, before any other is known


@dataclass(frozen=True)
class ReplaySettings:
    """What is kept and how it is drawn. The defaults are those of RA-R2D2 where the paper says them, else R2D2's.

    Attributes:
      capacity_sequences: windows that are kept.
      trace_steps: steps to learn from in a window.
      period_steps: steps from the start of one window to that of the next; at most `trace_steps`.
      burn_in_steps: steps before those to learn from, for the recurrent state alone, as far as the episode has them.
      stack: frames that one observation consists of; those before an episode's first are black.
      discount: gamma, in (0, 1].
      priority_exponent: windows are drawn in proportion to priority to this power; 0: uniformly.
      importance_exponent: how far weights make up for that; 1: fully.
      retrieval: windows to retrieve from are drawn by "priority" or "uniform", without replacement.
      block_frames: frames that are compressed together.
      compression: zlib's level; 0: none.

    Raises:
      RarlError: it names the setting that is out of its range.
    """

    capacity_sequences: int = 100_000
    trace_steps: int = 80
    period_steps: int = 40
    burn_in_steps: int = 0
    stack: int = 1
    discount: float = 0.997
    priority_exponent: float = 0.9
    importance_exponent: float = 0.6
    retrieval: Literal["priority", "uniform"] = "priority"
    block_frames: int = 20
    compression: int = 1

    def __post_init__(self) -> None:
        for name in ("capacity_sequences", "trace_steps", "period_steps", "stack", "block_frames"):
            self._require(name, getattr(self, name) >= 1, "at least 1")
        self._require("period_steps", self.period_steps <= self.trace_steps, f"at most trace_steps={self.trace_steps}")
        self._require("burn_in_steps", self.burn_in_steps >= 0, "at least 0")
        self._require("discount", 0 < self.discount <= 1, "in (0, 1]")
        self._require("compression", 0 <= self.compression <= 9, "between 0 and 9")
        self._require("importance_exponent", 0 <= self.importance_exponent <= 1, "between 0 and 1")
        self._require("priority_exponent", self.priority_exponent >= 0, "at least 0")
        self._require("retrieval", self.retrieval in ("priority", "uniform"), "'priority' or 'uniform'")

    def _require(self, name: str, holds: bool, what: str) -> None:
        if not holds:
            raise RarlError(f"{name}={getattr(self, name)!r}: must be {what}")

    @property
    def steps(self) -> int:
        """T, the most steps of a window, its burn-in included."""
        return self.burn_in_steps + self.trace_steps


@dataclass(frozen=True)
class Sequences:
    """B windows of T steps (`ReplaySettings.steps`), padded with zeros at the end.

    ids: for `Replay.update_priorities`.
    frames: stack - 1 + T + 1 of them; frame stack - 1 + t is the newest of the observation before
      step t, the one after the last step's is that of the observation after it. `observations` has them stacked.
    last_actions, last_rewards: what was done in the step before each observation
      and what it gave, as inputs of the encoder; at an episode's start 0 (no-op) and 0.
    discount_t: gamma, 0 after the step at which the episode terminated.
    mask: True on real steps. learn: the real steps that are past the burn-in.
    state: by name the stored recurrent state at the first step, before its observation is seen.
    episodes, starts: which episode and at which of its steps the window begins.
    """

    ids: Int[np.ndarray, " B"]
    actions: Int[np.ndarray, "B T"]
    r_t: Float[np.ndarray, "B T"]
    discount_t: Float[np.ndarray, "B T"]
    mask: Bool[np.ndarray, "B T"]
    learn: Bool[np.ndarray, "B T"]
    last_actions: Int[np.ndarray, "B T+1"]
    last_rewards: Float[np.ndarray, "B T+1"]
    frames: UInt8[np.ndarray, "B n_frames ..."]
    state: dict[str, Float[np.ndarray, "B ..."]]
    episodes: Int[np.ndarray, " B"]
    starts: Int[np.ndarray, " B"]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def observations(self) -> UInt8[np.ndarray, "B n_x stack ..."]:
        """Those of the T + 1 moments, the newest frame last: a view that must not be written to."""
        stack = self.frames.shape[1] - self.actions.shape[1]
        windows = np.lib.stride_tricks.sliding_window_view(self.frames, stack, axis=1)
        return np.moveaxis(windows, -1, 2)

    def rows(self, rows: slice) -> Sequences:
        """Some of the windows, as views."""

        def cut(value: Any) -> Any:
            return {name: array[rows] for name, array in value.items()} if isinstance(value, dict) else value[rows]

        return Sequences(*(cut(getattr(self, field.name)) for field in fields(self)))


@dataclass(frozen=True)
class Draw:
    """One draw for a learner step.

    learn: n windows. weights: importance weights, the largest 1. retrieve: m windows that share no observation with any
    of `learn`, and are all different.
    """

    learn: Sequences
    weights: Float[np.ndarray, " n"]
    retrieve: Sequences


class Replay:
    """The newest windows of the episodes of N actors.

    An actor's episode is `begin`, then `add` for each step up to one that ends it; then the next may begin. Windows
    have consecutive ids in the order in which they became complete. Not for several threads at once.

    Args:
      settings: what is kept and how it is drawn.
      actors: N.
      frame_shape: of one frame, uint8.
      state_shapes: shapes of the recurrent state of one actor by name, kept as float32: {"core": (512,)}.
      first_priority: of a new window whose values (past its burn-in) are all known; None: new windows get the largest
        priority there is.
    """

    def __init__(
        self,
        settings: ReplaySettings,
        actors: int,
        frame_shape: Sequence[int] = (84, 84),
        state_shapes: Mapping[str, Sequence[int]] | None = None,
        first_priority: Callable[[Window], float] | None = None,
    ):
        if actors < 1:
            raise RarlError(f"actors={actors}: must be at least 1")
        s = self.settings = settings
        self.steps_added = 0  # of all actors
        self._store = FrameStore(frame_shape, s.block_frames, s.compression)
        self._cutters = [
            WindowCutter(self._store, s.trace_steps, s.period_steps, s.burn_in_steps, s.stack - 1)
            for _ in range(actors)
        ]
        n, frames = s.capacity_sequences, s.stack - 1 + s.steps + 1
        self._rows: dict[str, np.ndarray] = {
            "actions": np.zeros((n, s.steps), dtype=np.int16),
            "rewards": np.zeros((n, s.steps), dtype=np.float32),
            "length": np.zeros(n, dtype=np.int32),
            "burn_in": np.zeros(n, dtype=np.int32),
            "terminated": np.zeros(n, dtype=bool),
            "last_action": np.zeros(n, dtype=np.int16),
            "last_reward": np.zeros(n, dtype=np.float32),
            "episode": np.full(n, -1, dtype=np.int64),
            "start": np.zeros(n, dtype=np.int64),
            "blocks": np.full((n, math.ceil((frames - 1) / s.block_frames) + 1), -1, dtype=np.int64),
            "offset": np.zeros(n, dtype=np.int32),
            "earlier": np.zeros(n, dtype=np.int32),
        }
        self._states = {name: np.zeros((n, *shape), dtype=np.float32) for name, shape in (state_shapes or {}).items()}
        self._tree = SumTree(n)
        self._next_id = 0  # window `id` is in row id % capacity
        self._next_episode = 0
        self._priorities = np.zeros(n, dtype=np.float64)  # before the exponent
        self._first_priority = first_priority

    def __len__(self) -> int:
        """Number of windows that can be drawn."""
        return min(self._next_id, self.settings.capacity_sequences)

    @property
    def ids(self) -> Int[np.ndarray, " n"]:
        """The windows that can be drawn, the oldest first."""
        return np.arange(self._next_id - len(self), self._next_id)

    @property
    def max_priority(self) -> float:
        """The largest priority of the windows that can be drawn; it falls as they become less surprising."""
        return float(self._priorities[: len(self)].max()) if len(self) else FIRST_PRIORITY

    @property
    def nbytes(self) -> int:
        """Bytes of all frames, as they are stored."""
        return self._store.nbytes

    # --- what comes in ------------------------------------------------------------------------------------------------

    def begin(self, actors: Int[np.ndarray, " M"], frames: Shaped[np.ndarray, "_ ..."]) -> None:
        """Episodes begin.

        Args:
          actors: whose.
          frames: uint8, the newest frame of each first observation.

        Raises:
          RarlError: the episode before has not ended; frames of another shape.
        """
        whose = self._actors(actors, frames)
        for actor in whose:
            if self._cutters[actor].episode is not None:
                raise RarlError(f"actor {actor}: begins an episode, but the one before has not ended; `cut` it")
        for row, actor in enumerate(whose):
            self._cutters[actor].begin(self._next_episode, frames[row])
            self._next_episode += 1

    def add(
        self,
        actors: Int[np.ndarray, " M"],
        states: Mapping[str, Shaped[np.ndarray, "_ ..."]],
        actions: Int[np.ndarray, " _"],
        rewards: Shaped[np.ndarray, " _"],
        frames: Shaped[np.ndarray, "_ ..."],
        terminated: Bool[np.ndarray, " _"],
        truncated: Bool[np.ndarray, " _"],
        values: Float[np.ndarray, "_ K"] | None = None,
    ) -> Int[np.ndarray, " windows"]:
        """One step of each of M actors.

        Args:
          actors: different ones.
          states: by name recurrent states with which the steps were begun, before their observations were
            seen. Read only where a window begins.
          actions: at least 0. rewards: not clipped.
          frames: uint8, the newest frame of each observation after the step: where the episode ends,
            its last, not the first of the next.
          values: what `first_priority` needs to know of each step, NaN where it is not known; None: nothing is.
            A window of which all is known gets its priority from them, others the largest that there is.

        Returns:
          Ids of the windows that have become complete.

        Raises:
          RarlError: an actor has no episode; frames, states or another argument of another shape; a value is infinite.
            Nothing has been added then.
        """
        whose = self._actors(actors, frames)
        if states.keys() != self._states.keys():
            raise RarlError(f"recurrent states {sorted(states)}: must be {sorted(self._states)}")
        for name, array in states.items():
            if array.shape != (len(whose), *self._states[name].shape[1:]):
                raise RarlError(f"recurrent states {name!r} of shape {array.shape} for {len(whose)} actors")
        for actor in whose:
            if self._cutters[actor].episode is None:
                raise RarlError(f"actor {actor}: a step outside of an episode; `begin` one")
        first = self._next_id
        said = [NOTHING_KNOWN] * len(whose) if values is None else list(np.array(values, dtype=np.float64))
        if any(np.isinf(row).any() for row in said):
            raise RarlError("a value is infinite")
        columns = [np.asarray(column).tolist() for column in (actions, rewards, terminated, truncated)]
        if any(len(column) != len(whose) for column in (*columns, said)):
            raise RarlError(f"a step of {len(whose)} actors needs as many actions, rewards, flags and values")
        for row, (actor, action, reward, has_terminated, was_truncated, value) in enumerate(
            zip(whose, *columns, said, strict=True)
        ):
            window = self._cutters[actor].step(
                states, row, action, reward, frames[row], has_terminated, was_truncated, value
            )
            if window is not None:
                self._insert(window)
        self.steps_added += len(whose)
        return np.arange(first, self._next_id)

    def cut(self, actors: Int[np.ndarray, " M"] | None = None) -> Int[np.ndarray, " windows"]:
        """Episodes on their way count as truncated here, because the environment is gone, say.

        Args:
          actors: whose; None: all. Nothing happens where there is none.

        Returns:
          Ids of the windows that have become complete.
        """
        first = self._next_id
        for actor in range(len(self._cutters)) if actors is None else self._actors(actors):
            window = self._cutters[actor].cut()
            if window is not None:
                self._insert(window)
        return np.arange(first, self._next_id)

    def _actors(self, actors: np.ndarray, frames: np.ndarray | None = None) -> list[int]:
        listed = np.asarray(actors).tolist()
        for actor in listed:
            if not 0 <= actor < len(self._cutters):
                raise RarlError(f"actor {actor}: there are {len(self._cutters)}, counted from 0")
        if frames is not None and (frames.shape != (len(listed), *self._store.shape) or frames.dtype != np.uint8):
            raise RarlError(
                f"frames of {frames.dtype} {frames.shape}: must be uint8 {(len(listed), *self._store.shape)}, "
                "one for each actor"
            )
        return listed

    def _insert(self, window: Window) -> None:
        row = self._next_id % self.settings.capacity_sequences
        rows, n = self._rows, len(window.actions)
        if self._next_id >= self.settings.capacity_sequences:
            self._store.release(self._blocks(row))
        for name, values in (("actions", window.actions), ("rewards", window.rewards), ("blocks", window.blocks)):
            rows[name][row, : len(values)] = values
            rows[name][row, len(values) :] = -1 if name == "blocks" else 0
        rows["length"][row] = n
        for name in ("burn_in", "terminated", "last_action", "last_reward", "episode", "start", "offset", "earlier"):
            rows[name][row] = getattr(window, name)
        for name, array in window.state.items():
            self._states[name][row] = array
        priority = self.max_priority
        if self._first_priority is not None and not np.isnan(window.values[window.burn_in :]).any():
            priority = self._first_priority(window)
        self._next_id += 1
        self._set_priorities(np.array([row]), np.array([priority]))

    def _blocks(self, row: int) -> list[int]:
        return [block for block in self._rows["blocks"][row].tolist() if block >= 0]

    # --- priorities ---------------------------------------------------------------------------------------------------

    def update_priorities(self, ids: Int[np.ndarray, " B"], priorities: Float[np.ndarray, " B"]) -> None:
        """Set priorities, before the exponent, of windows; those that are no longer there are passed over.

        Raises:
          RarlError: a priority is negative or not finite.
        """
        ids, priorities = np.asarray(ids), np.asarray(priorities, dtype=np.float64)
        live = (ids >= self._next_id - len(self)) & (ids < self._next_id)
        self._set_priorities(ids[live] % self.settings.capacity_sequences, priorities[live])

    def _set_priorities(self, rows: np.ndarray, priorities: np.ndarray) -> None:
        wrong = priorities[~(np.isfinite(priorities) & (priorities >= 0))]
        if len(wrong):
            raise RarlError(f"priorities must be finite and at least 0, but one is {wrong[0]}")
        self._priorities[rows] = priorities
        self._tree.set(rows, np.maximum(priorities, LEAST_PRIORITY) ** self.settings.priority_exponent)

    # --- what goes out ------------------------------------------------------------------------------------------------

    def sample(self, learn: int, retrieve: int, rng: np.random.Generator) -> Draw:
        """Windows to learn from, with replacement and by priority, and others to retrieve from, without.

        Args:
          learn: n, at least 1.
          retrieve: m, at least 0.
          rng: source of randomness.

        Raises:
          RarlError: there are too few windows.
        """
        ids = self.draw(learn, rng)
        others = self.draw_apart(retrieve, rng, ids)
        both = self.at(np.concatenate([ids, others]))
        return Draw(both.rows(slice(learn)), self.weights(ids), both.rows(slice(learn, None)))

    def draw(self, size: int, rng: np.random.Generator) -> Int[np.ndarray, " {size}"]:
        """Ids of windows by priority, one from each of `size` equal parts of their total.

        Raises:
          RarlError: there is no window.
        """
        if not len(self):
            raise RarlError("nothing can be drawn from a replay without a complete window")
        return self._ids_of(self._tree.sample(size, rng))

    def draw_apart(
        self, size: int, rng: np.random.Generator, ids: Int[np.ndarray, " _"] | None = None
    ) -> Int[np.ndarray, " {size}"]:
        """Ids of different windows that share no observation with those of `ids`.

        Drawn by priority or uniformly, one after the other without replacement.

        Raises:
          RarlError: there are too few such windows.
        """
        if size == 0:
            return np.zeros(0, dtype=np.int64)
        allowed = np.ones(len(self), dtype=bool)
        if ids is not None and len(ids):
            allowed[self._near(ids)] = False
        rows = np.flatnonzero(allowed)
        if len(rows) < size:
            raise RarlError(
                f"{size} windows to retrieve from cannot be drawn: of {len(self)} in the replay {len(rows)} share no "
                "observation with those learned from; let learning start later, or retrieve from fewer"
            )
        if self.settings.retrieval == "uniform":
            chosen = rows[rng.choice(len(rows), size, replace=False)]
        else:
            # The first to arrive, of Poisson processes with the weights as rates (Efraimidis and Spirakis, 2006).
            arrival = rng.standard_exponential(len(rows)) / self._tree.weights[rows]
            first = np.argpartition(arrival, min(size, len(rows) - 1))[:size]
            chosen = rows[first[np.argsort(arrival[first])]]
        return self._ids_of(chosen)

    def weights(self, ids: Int[np.ndarray, " B"]) -> Float[np.ndarray, " B"]:
        """Importance weights of windows drawn together: (N P(i))^-beta, over the largest of them."""
        weight = self._tree.weights[self._rows_of(ids)]
        return ((weight / weight.min()) ** -self.settings.importance_exponent).astype(np.float32)

    def overlap(self, a: Int[np.ndarray, " A"], b: Int[np.ndarray, " B"]) -> Bool[np.ndarray, "A B"]:
        """Whether windows of these ids share an observation, that after the last step included."""
        a, b = self._rows_of(a)[:, None], self._rows_of(b)[None, :]
        episode, start, length = (self._rows[name] for name in ("episode", "start", "length"))
        return (episode[a] == episode[b]) & (start[a] <= start[b] + length[b]) & (start[b] <= start[a] + length[a])

    def _near(self, ids: np.ndarray) -> np.ndarray:
        """Rows of the windows that share an observation with those of `ids`."""
        episodes = self._rows["episode"]
        rows = np.flatnonzero(np.isin(episodes[: len(self)], episodes[self._rows_of(ids)]))
        return rows[self.overlap(self._ids_of(rows), ids).any(axis=1)]

    def at(self, ids: Int[np.ndarray, " B"]) -> Sequences:
        """The windows of these ids.

        Raises:
          RarlError: one is no longer, or not yet, there.
        """
        s, index = self.settings, self._rows_of(ids)
        rows = {name: array[index] for name, array in self._rows.items()}
        t = np.arange(s.steps)
        length = rows["length"][:, None]
        mask = t < length
        last = rows["terminated"][:, None] & (t == length - 1)
        return Sequences(
            ids=np.array(ids, dtype=np.int64),
            frames=self._frames(rows),
            last_actions=np.concatenate([rows["last_action"][:, None], rows["actions"]], axis=1).astype(np.int64),
            last_rewards=np.concatenate([rows["last_reward"][:, None], rows["rewards"]], axis=1),
            actions=rows["actions"].astype(np.int64),
            r_t=rows["rewards"],
            discount_t=np.where(last, 0.0, s.discount).astype(np.float32),
            mask=mask,
            learn=mask & (t >= rows["burn_in"][:, None]),
            state={name: array[index] for name, array in self._states.items()},
            episodes=rows["episode"],
            starts=rows["start"],
        )

    def _frames(self, rows: Mapping[str, np.ndarray]) -> np.ndarray:
        """(B, stack - 1 + T + 1, height, width): the frames of these rows."""
        s = self.settings
        before = s.stack - 1
        out = np.empty((len(rows["length"]), before + s.steps + 1, *self._store.shape), dtype=np.uint8)
        columns = (rows[name].tolist() for name in ("blocks", "offset", "earlier", "length"))
        for frames, blocks, offset, earlier, length in zip(out, *columns, strict=True):
            first, end = before - earlier, before + length + 1
            self._store.read([block for block in blocks if block >= 0], offset, frames[first:end])
            frames[:first] = frames[end:] = 0
        return out

    def _rows_of(self, ids: np.ndarray) -> np.ndarray:
        ids = np.asarray(ids)
        oldest = self._next_id - len(self)
        if len(ids) and not (oldest <= ids.min() and ids.max() < self._next_id):
            raise RarlError(f"windows {ids.min()} to {ids.max()}: the replay holds {oldest} to {self._next_id - 1}")
        return ids % self.settings.capacity_sequences

    def _ids_of(self, rows: np.ndarray) -> np.ndarray:
        newest = self._next_id - 1
        return newest - (newest - rows) % self.settings.capacity_sequences

    # --- state --------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything that is held, episodes on their way included, for `rarl.runs.checkpoints`; all of it finite.

        As large as what it describes (see the top of this file). One copy of it is made: what is large are tensors,
        which checkpoints take as they are.
        """
        n = len(self)
        return {
            "settings": asdict(self.settings),
            "rows": {name: torch.from_numpy(array[:n].copy()) for name, array in self._rows.items()},
            "states": {name: torch.from_numpy(array[:n].copy()) for name, array in self._states.items()},
            "priorities": self._priorities[:n].copy(),
            "next_id": self._next_id,
            "next_episode": self._next_episode,
            "steps_added": self.steps_added,
            "store": self._store.state_dict(),
            "cutters": [cutter.state_dict() for cutter in self._cutters],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """What `state_dict` gave: afterwards everything goes on as it would have there.

        Raises:
          RarlError: it was made with other settings, another number of actors, or other recurrent states.
        """
        differing = differences(state["settings"], asdict(self.settings))
        if len(state["cutters"]) != len(self._cutters):
            differing.append(f"actors: {len(state['cutters'])} then, {len(self._cutters)} now")
        then, now = (
            {f"state {name}": list(array.shape[1:]) for name, array in states.items()}
            for states in (state["states"], self._states)
        )
        differing += differences(then, now)
        if differing:
            raise RarlError(f"the replay was made with other settings: {'; '.join(differing)}")
        self._next_id, self._next_episode = state["next_id"], state["next_episode"]
        self.steps_added = state["steps_added"]
        n = len(self)
        for arrays, saved in ((self._rows, state["rows"]), (self._states, state["states"])):
            for name, array in arrays.items():
                array[:n] = saved[name].numpy()
        self._tree = SumTree(self.settings.capacity_sequences)
        self._set_priorities(np.arange(n), state["priorities"])
        self._store.load_state_dict(state["store"])
        for cutter, saved in zip(self._cutters, state["cutters"], strict=True):
            cutter.load_state_dict(saved)
