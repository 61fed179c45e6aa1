"""Many BabyAI levels stepped at once.

Rules, rewards and missions are minigrid's own: each environment is one of its objects. What is done for all together
is the view, which takes 86 % of a step in minigrid: a padded grid of cell codes per environment is kept up to date
(an action can change one cell only, the one in front of the agent) and read through tables (`view.py`). Equal, step
by step, to minigrid's observations (a property test holds them together).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rarl.envs.babyai.levels import Level, make_level
from rarl.envs.babyai.missions import MISSION_LENGTH, tokenise
from rarl.envs.babyai.view import CELLS, EMPTY, MARGIN, WALL, cell_code, see, view_offsets

OBSERVATION_SIZE = CELLS + 1
ACTIONS = ("left", "right", "forward", "pickup", "drop", "toggle", "done")
_CHANGING = frozenset(map(ACTIONS.index, ("pickup", "drop", "toggle")))  # the others leave all cells as they are


def _unobserved() -> None:
    """In place of minigrid's own observations, which nobody reads here."""


class VectorBabyAI:
    """n environments in lockstep, without automatic reset.

    An environment whose episode has ended stands still: its observation stays, its rewards and flags are 0.

    Args:
      levels: one level per environment.

    Attributes:
      levels: the same.
      envs: minigrid's environments; they make no observations of their own any more.
      active: (n,) bool, which episodes go on. The caller may clear an entry to abandon an episode.
      success: (n,) bool, which missions are accomplished.
      missions: (n, MISSION_LENGTH) uint8 tokens.
      max_steps: (n,) int64, when time runs out.
    """

    def __init__(self, levels: Sequence[Level]):
        self.levels = tuple(levels)
        self.num_envs = n = len(self.levels)
        self.envs = [make_level(level) for level in self.levels]
        for env in self.envs:
            env.gen_obs = _unobserved
        self._stride = max(max(env.width, env.height) for env in self.envs) + 2 * MARGIN
        self._offsets = view_offsets(self._stride)
        self._codes = np.full((n, self._stride**2), WALL, dtype=np.uint8)
        self._position = np.zeros(n, dtype=np.int64)  # of the agent, in the flat padded grid
        self._direction = np.zeros(n, dtype=np.int64)
        self._carried = np.full(n, EMPTY, dtype=np.uint8)
        self._observations = np.zeros((n, OBSERVATION_SIZE), dtype=np.uint8)
        self.active = np.zeros(n, dtype=bool)
        self.success = np.zeros(n, dtype=bool)
        self.missions = np.zeros((n, MISSION_LENGTH), dtype=np.uint8)
        self.max_steps = np.zeros(n, dtype=np.int64)

    def reset(self, seeds: np.ndarray, where: np.ndarray | None = None) -> np.ndarray:
        """Start episodes.

        Args:
          seeds: one per environment to start, at least 0; a level and a seed fix the episode's start.
          where: indices of the environments to start, all by default. The others go on where they are.

        Returns:
          (n, 50) uint8, the observations of all environments: 49 cell codes, then the agent's direction.
        """
        where = np.arange(self.num_envs) if where is None else np.asarray(where, dtype=np.int64)
        if len(seeds) != len(where):
            raise ValueError(f"{len(where)} environments to start need as many seeds, not {len(seeds)}")
        for i, seed in zip(where.tolist(), seeds, strict=True):
            env = self.envs[i]
            env.reset(seed=int(seed))
            padded = self._codes[i].reshape(self._stride, self._stride)
            codes = [cell_code(cell) for cell in env.grid.grid]
            padded[MARGIN : MARGIN + env.height, MARGIN : MARGIN + env.width] = np.reshape(codes, (env.height, -1))
            self.missions[i] = tokenise(env.mission)
            self.max_steps[i] = env.max_steps
            self._follow_agent(i)
        self.active[where] = True
        self.success[where] = False
        self._look(where)
        return self._observations.copy()

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """One action (0..6) each -> observations (n, 50) uint8, rewards (n,) float32, terminated, truncated (n,) bool.

        Terminated: the mission is accomplished or failed; truncated: time ran out. Both can come on the same step.
        """
        rewards = np.zeros(self.num_envs, dtype=np.float32)
        terminated, truncated = np.zeros((2, self.num_envs), dtype=bool)
        rows = np.flatnonzero(self.active)
        actions = np.asarray(actions)
        for i, action in zip(rows.tolist(), actions[rows].tolist(), strict=True):
            env = self.envs[i]
            _, reward, end, timeout, _ = env.step(action)
            if action in _CHANGING:
                x, y = env.front_pos
                self._codes[i, self._flat(x, y)] = cell_code(env.grid.get(x, y))
            self._follow_agent(i)
            if end or timeout:
                rewards[i], terminated[i], truncated[i] = reward, end, timeout
                self.success[i] = reward > 0
                self.active[i] = False
        self._look(rows)
        return self._observations.copy(), rewards, terminated, truncated

    def render(self, i: int) -> np.ndarray:
        """(pixels, pixels, 3) uint8: environment i as minigrid draws it, what the agent sees highlighted."""
        return self.envs[i].get_frame()

    def _flat(self, x: int, y: int) -> int:
        return (int(y) + MARGIN) * self._stride + int(x) + MARGIN

    def _follow_agent(self, i: int) -> None:
        env = self.envs[i]
        self._position[i] = self._flat(*env.agent_pos)
        self._direction[i] = env.agent_dir
        self._carried[i] = cell_code(env.carrying)

    def _look(self, rows: np.ndarray) -> None:
        direction = self._direction[rows]
        cells = self._codes[rows[:, None], self._position[rows, None] + self._offsets[direction]]
        self._observations[rows, :CELLS] = see(cells, self._carried[rows])
        self._observations[rows, CELLS] = direction
