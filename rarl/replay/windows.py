"""Episodes that come in step by step, cut into overlapping windows.

Windows of an episode of T steps start at its steps 0, P, 2P, ... (P the period) and are L steps long (the trace), until
every step is in one: 1 + ceil(max(T - L, 0) / P) windows, of which the last may be shorter. All but the first have a
burn-in in front of these steps: the steps before, as many as are asked for or there are. No window reaches into another
episode.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped, UInt8

from rarl.replay.frames import FrameStore

NOTHING_KNOWN = np.full(1, np.nan)
NO_ACTION, NO_REWARD = 0, 0.0  # what the encoder is told, at an episode's first step, about the step before


@dataclass(frozen=True)
class Window:
    """n consecutive steps of an episode, the burn-in's first; the observations are in a `FrameStore`.

    Attributes:
      episode: its number.
      start: which of the episode's steps is the first.
      burn_in: how many of the steps are for the recurrent state alone.
      terminated: whether the episode terminated with the last step.
      actions, rewards: n each. values: what the actor's network said at each step, for the first
        priority; NaN where that is not known.
      last_action, last_reward: of the step before the first, or NO_ACTION and NO_REWARD.
      state: the recurrent state at the first step, before its observation is seen; arrays by name.
      blocks: that hold its frames, one holder of each being this window.
      offset: position of its first frame in the first block.
      earlier: how many frames are there from before its first observation, for stacks; earlier + n + 1 in all, that of
        the observation after the last step included.
    """

    episode: int
    start: int
    burn_in: int
    terminated: bool
    actions: list[int]
    rewards: list[float]
    values: Float[np.ndarray, "n K"]
    last_action: int
    last_reward: float
    state: Mapping[str, np.ndarray]
    blocks: list[int]
    offset: int
    earlier: int


class WindowCutter:
    """Cuts the episodes of one actor into windows, as soon as each is complete.

    Args:
      store: where the frames go.
      trace: L, steps to learn from in a window.
      period: P, steps from the start of a window to that of the next; at most L.
      burn_in: steps before that.
      earlier: frames before a window's first observation that it shall have too, if the episode has them.
    """

    def __init__(self, store: FrameStore, trace: int, period: int, burn_in: int, earlier: int):
        assert 1 <= period <= trace
        assert burn_in >= 0
        assert earlier >= 0
        self.store, self.trace, self.period, self.burn_in, self.earlier = store, trace, period, burn_in, earlier
        self._clear()

    def _clear(self) -> None:
        self.episode: int | None = None  # None: no episode is on its way
        self.steps = 0
        self._covered = 0  # steps that are in a window
        self._window = 0  # the next to be cut
        self._states: list[Mapping[str, np.ndarray]] = []  # of the windows from that one on
        self._first_step = 0  # the first step that the lists hold
        self._actions: list[int] = []
        self._rewards: list[float] = []
        self._values: list[np.ndarray] = []
        self._first_block = 0
        self._blocks: list[int] = []

    def _start(self, window: int) -> int:
        """The first step of a window, its burn-in included."""
        return max(0, window * self.period - self.burn_in)

    def begin(self, episode: int, frame: UInt8[np.ndarray, "*frame"]) -> None:
        """An episode begins with the observation `frame`."""
        assert self.episode is None
        self.episode = episode
        self._blocks.append(self.store.open())
        self.store.append(self._blocks[-1], frame)

    def step(
        self,
        states: Mapping[str, Shaped[np.ndarray, "M ..."]],
        row: int,
        action: int,
        reward: float,
        frame: UInt8[np.ndarray, "*frame"],
        terminated: bool,
        truncated: bool,
        values: Float[np.ndarray, " K"] = NOTHING_KNOWN,
    ) -> Window | None:
        """One step of the episode; the window that it completes, if it does.

        Args:
          states: by name the recurrent states in which the step was begun; a copy of `row` is kept if needed.
          action, reward, frame: what was done, what it gave, and the observation after it.
          terminated, truncated: whether the episode ended with it.
          values: numbers for the window's first priority, NaN where not known; K is the same in all steps.
        """
        while self._start(self._window + len(self._states)) == self.steps:
            self._states.append({name: array[row].copy() for name, array in states.items()})
        self._actions.append(action)
        self._rewards.append(reward)
        self._values.append(values)
        self.steps += 1
        if self.steps % self.store.block == 0:
            self._blocks.append(self.store.open())
        self.store.append(self._blocks[-1], frame)
        if terminated or truncated:
            return self._end(terminated)
        if self.steps == self._window * self.period + self.trace:
            window = self._cut(terminated=False)
            self._forget()
            return window
        return None

    def cut(self) -> Window | None:
        """The episode on its way, if there is one, counts as truncated after the step before this call."""
        return self._end(terminated=False) if self.episode is not None else None

    def _end(self, terminated: bool) -> Window | None:
        window = self._cut(terminated) if self.steps > self._covered else None
        self.store.seal(self._blocks[-1])
        self.store.release(self._blocks)
        self._clear()
        return window

    def _cut(self, terminated: bool) -> Window:
        """The next window, up to the step before."""
        assert self.episode is not None
        start = self._start(self._window)
        first = start - self._first_step
        first_frame = max(0, start - self.earlier)
        in_block, offset = divmod(first_frame, self.store.block)
        blocks = self._blocks[in_block - self._first_block :]
        self.store.hold(blocks)
        window = Window(
            episode=self.episode,
            start=start,
            burn_in=self._window * self.period - start,
            terminated=terminated,
            actions=self._actions[first:],
            rewards=self._rewards[first:],
            values=np.array(self._values[first:], dtype=np.float64),
            last_action=self._actions[first - 1] if start else NO_ACTION,
            last_reward=self._rewards[first - 1] if start else NO_REWARD,
            state=self._states.pop(0),
            blocks=blocks,
            offset=offset,
            earlier=start - first_frame,
        )
        self._window += 1
        self._covered = self.steps
        return window

    def _forget(self) -> None:
        """Drop what no later window needs; the step before its first is needed as its last action and reward."""
        start = self._start(self._window)
        superfluous = max(0, start - 1) - self._first_step
        if superfluous > 0:
            del self._actions[:superfluous], self._rewards[:superfluous], self._values[:superfluous]
            self._first_step += superfluous
        superfluous = max(0, start - self.earlier) // self.store.block - self._first_block
        if superfluous > 0:
            self.store.release(self._blocks[:superfluous])
            del self._blocks[:superfluous]
            self._first_block += superfluous

    # --- state --------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything but the frames. Finite: values that are not known are 0 here, and False in `values_known`."""
        values = np.array(self._values, dtype=np.float64)
        known = ~np.isnan(values)
        return {
            "episode": self.episode,
            "steps": self.steps,
            "covered": self._covered,
            "window": self._window,
            "states": [dict(state) for state in self._states],
            "first_step": self._first_step,
            "actions": np.array(self._actions, dtype=np.int64),
            "rewards": np.array(self._rewards, dtype=np.float64),
            "values": np.where(known, values, 0.0),
            "values_known": known,
            "first_block": self._first_block,
            "blocks": np.array(self._blocks, dtype=np.int64),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """What `state_dict` gave; the store must have been restored to that moment too."""
        self.episode, self.steps = state["episode"], state["steps"]
        self._covered, self._window = state["covered"], state["window"]
        self._states = [dict(arrays) for arrays in state["states"]]
        self._first_step, self._first_block = state["first_step"], state["first_block"]
        self._actions, self._rewards, self._blocks = (state[name].tolist() for name in ("actions", "rewards", "blocks"))
        self._values = list(np.where(state["values_known"], state["values"], np.nan))
