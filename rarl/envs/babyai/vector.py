"""Many BabyAI levels stepped at once.

Rules, rewards and missions are minigrid's own: each environment is one of its objects. What is done for all together
is the view, which takes 86 % of a step in minigrid: a padded grid of cell codes per environment is kept up to date
(an action can change one cell only, the one in front of the agent) and read through tables (`view.py`). Equal, step
by step, to minigrid's observations (a property test holds them together).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rarl.envs.babyai.levels import Level, level_named, make_level
from rarl.envs.babyai.missions import MISSION_LENGTH, tokenise
from rarl.envs.babyai.view import CELLS, EMPTY, MARGIN, WALL, cell_code, see, thing_code, view_offsets
from rarl.envs.vector import Step, VectorEnv, where_of

OBSERVATION_SIZE = CELLS + 1
ACTIONS = ("left", "right", "forward", "pickup", "drop", "toggle", "done")
_THINGS = {thing_code("red", kind) // 18 for kind in ("key", "ball", "box")}
_CHANGING = frozenset(map(ACTIONS.index, ("pickup", "drop", "toggle")))  # the others leave all cells as they are


def _unobserved() -> None:
    """In place of minigrid's own observations, which nobody reads here."""


class VectorBabyAI(VectorEnv):
    """Levels of BabyAI; the context of an episode is its mission.

    Args:
      levels: one level per environment.
      seed: of all episodes that are not given a seed of their own.
      tells: whether the mission is told; otherwise there is no context.

    Attributes:
      levels: the same.
      envs: minigrid's environments; they make no observations of their own any more.
      success: (n,) bool, which missions are accomplished.
      missions: (n, MISSION_LENGTH) uint8, the missions' tokens.
      max_steps: (n,) int64, when time runs out.
      ahead: (n,) int64, of levels that are a mission, codes of the cells in front of the agents.
      measured: of such levels "first_faced", whether the first thing that the agent stood before was the one to go to.
    """

    actions = ACTIONS

    def __init__(self, levels: Sequence[Level], seed: int = 0, tells: bool = True):
        self.levels = tuple(levels)
        self.num_envs = n = len(self.levels)
        self.envs = [make_level(level) for level in self.levels]
        for env in self.envs:
            vars(env)["gen_obs"] = _unobserved
        self._stride = max(max(env.width, env.height) for env in self.envs) + 2 * MARGIN
        self._offsets = view_offsets(self._stride)
        self._codes = np.full((n, self._stride**2), WALL, dtype=np.uint8)
        self._position = np.zeros(n, dtype=np.int64)  # of the agent, in the flat padded grid
        self._direction = np.zeros(n, dtype=np.int64)
        self._carried = np.full(n, EMPTY, dtype=np.uint8)
        self._observations = np.zeros((n, OBSERVATION_SIZE), dtype=np.uint8)
        self._rng = np.random.default_rng(seed)
        self.active = np.zeros(n, dtype=bool)
        self.success = np.zeros(n, dtype=bool)
        self.missions = np.zeros((n, MISSION_LENGTH), dtype=np.uint8)
        self.context = self.missions if tells else None
        self.max_steps = np.zeros(n, dtype=np.int64)
        self._targets = [None if level.target is None else thing_code(*level.target) for level in self.levels]
        self.ahead = np.full(n, EMPTY)
        self._faced = np.zeros(n, dtype=bool)  # anything yet
        if any(self._targets):
            self.measured = {"first_faced": np.zeros(n)}
        self._played: dict[int, tuple[int, list[int]]] = {}  # seed and actions of each episode

    def reset(self, seeds: Sequence[int] | np.ndarray | None = None, where: np.ndarray | None = None) -> np.ndarray:
        """-> (n, 50) uint8: 49 cell codes, then the agent's direction."""
        where = where_of(self.num_envs, seeds, where)
        if seeds is None:
            seeds = self._rng.integers(2**31, size=len(where))
        for i, seed in zip(where.tolist(), seeds, strict=True):
            env = self.envs[i]
            env.reset(seed=int(seed))
            self._played[i] = int(seed), []
            padded = self._codes[i].reshape(self._stride, self._stride)
            codes = [cell_code(cell) for cell in env.grid.grid]
            padded[MARGIN : MARGIN + env.height, MARGIN : MARGIN + env.width] = np.reshape(codes, (env.height, -1))
            self.missions[i] = tokenise(env.mission)
            self.max_steps[i] = env.max_steps
            self._faced[i] = False
            self._follow_agent(i)
        self.active[where] = True
        self.success[where] = False
        self._look(where)
        return self._observations.copy()

    def step(self, actions: np.ndarray) -> Step:
        """Terminated: the mission is accomplished or failed; truncated: time ran out. Both can come on one step."""
        rewards = np.zeros(self.num_envs, dtype=np.float32)
        terminated, truncated = np.zeros((2, self.num_envs), dtype=bool)
        rows = np.flatnonzero(self.active)
        actions = np.asarray(actions)
        for i, action in zip(rows.tolist(), actions[rows].tolist(), strict=True):
            env = self.envs[i]
            self._played[i][1].append(action)
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
        return Step(self._observations.copy(), rewards, terminated, truncated)

    def state_dict(self) -> dict[str, Any]:
        """Seeds and actions, which are played again."""
        episodes = (self._played.get(i) for i in range(self.num_envs))
        played = [one and {"seed": one[0], "actions": np.array(one[1])} for one in episodes]
        return {"rng": self._rng.bit_generator.state, "played": played, "active": self.active.copy()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.active[:] = False
        for i, one in enumerate(state["played"]):
            if one is None:
                continue
            self.reset([one["seed"]], np.array([i]))
            for action in one["actions"].tolist():  # the others stand still
                self.step(np.full(self.num_envs, action))
            self.active[i] = False
        self._rng.bit_generator.state, self.active = state["rng"], state["active"].copy()

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
        target = self._targets[i]
        if target is None:
            return
        ahead = self.ahead[i] = self._codes[i, self._flat(*env.front_pos)]
        if not self._faced[i]:
            self._faced[i] = ahead // 18 in _THINGS
            self.measured["first_faced"][i] = ahead == target

    def _look(self, rows: np.ndarray) -> None:
        direction = self._direction[rows]
        cells = self._codes[rows[:, None], self._position[rows, None] + self._offsets[direction]]
        self._observations[rows, :CELLS] = see(cells, self._carried[rows])
        self._observations[rows, CELLS] = direction


def make_vector(tasks: Sequence[str], seed: int = 0) -> VectorBabyAI:
    """Environments of these levels, by name."""
    return VectorBabyAI([level_named(task) for task in tasks], seed)


def make_untold(tasks: Sequence[str], seed: int = 0) -> VectorBabyAI:
    """The same, and nobody is told the mission."""
    return VectorBabyAI([level_named(task) for task in tasks], seed, tells=False)
