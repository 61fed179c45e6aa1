"""What learners of episodic control share: agent, exploration, when NEC learns, state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Protocol

import faiss
import numpy as np

from rarl.agents.episodic import MFEC, NEC, EpisodicAgent, Looked
from rarl.agents.exploration import explore, falling_epsilon
from rarl.config.scale import Run
from rarl.errors import RunFailedError
from rarl.replay.state_replay import Replayed


class Replay(Protocol):
    """What NEC learns from."""

    def __len__(self) -> int: ...

    def sample(self, n: int, rng: np.random.Generator) -> Replayed: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


class EpisodicLearner(ABC):
    """Plays, stores what it played when an episode ends, and as NEC learns its keys on the way.

    Of the settings `learning` it heeds discount and, as NEC, learning_rate and batch_states.

    Args:
      run: the settings.
      device: where NEC's network is; memories are on the CPU.
      n_actions: number of actions.
      size: numbers in a state.
    """

    def __init__(self, run: Run, device: str, n_actions: int, size: int):
        s = self.settings = run.settings
        faiss.omp_set_num_threads(s.threads)
        self.rng = np.random.default_rng([s.seed, 1])
        shape = (s, n_actions, len(run.tasks))
        self.agent: EpisodicAgent = NEC(*shape, device) if s.agent.kind == "nec" else MFEC(*shape, size)
        self.replay: Replay | None = None  # NEC's; who derives from this class makes it
        self.steps = 0  # in the environments
        self.learned = 0  # steps of RMSprop
        self._losses: list[float] = []  # of this update

    # --- playing and learning -----------------------------------------------------------------------------------------

    @abstractmethod
    def update(self) -> Mapping[str, float]:
        """Play for a while."""

    @property
    def epsilon(self) -> float:
        """Of exploration, now."""
        s = self.settings.episodic
        return falling_epsilon(self.steps, s.epsilon_from_steps, s.epsilon_to_steps, s.epsilon)

    def _act(self, x: np.ndarray, tasks: np.ndarray) -> tuple[np.ndarray, Looked]:
        """Actions (n,) in the states x (n, ...) of tasks (n,), and what was found about them."""
        looked = self.agent.look(x, tasks)
        return explore(looked.best(self.rng), self.agent.n_actions, self.epsilon, self.rng), looked

    def _stepped(self, n: int) -> None:
        """n steps were played: NEC learns as often as is due. It waits for the first episodes to end."""
        s, learning = self.settings.episodic, self.settings.learning
        before, self.steps = self.steps, self.steps + n
        if self.replay is None or not len(self.replay):
            return
        due, were_due = (max(steps - s.learn_from_steps, 0) // s.learn_every_steps for steps in (self.steps, before))
        for _ in range(due - were_due):
            batch = self.replay.sample(learning.batch_states, self.rng)
            loss = self.agent.learn(*batch, learning.learning_rate)
            self.learned += 1
            if not np.isfinite(loss):
                raise RunFailedError(f"learner step {self.learned}: the loss is {loss}")
            self._losses.append(loss)

    def _scalars(self, returns: list[float], matches: int, written: int) -> dict[str, float]:
        """What to log of an update.

        returns: of the episodes that ended in it. written: state-action pairs. matches: those that were there already.
        """
        scalars = {"epsilon": self.epsilon, "memory_entries": float(len(self.agent))}
        if returns:
            scalars |= {"actor_return": float(np.mean(returns)), "exact_matches": matches / written}
        if self._losses:
            scalars["loss"] = float(np.mean(self._losses))
            self._losses = []
        return scalars

    # --- evaluation ---------------------------------------------------------------------------------------------------

    @abstractmethod
    def evaluate(self) -> list[dict[str, Any]]:
        """One row per task: task, episodes, return_mean, return_std, success_rate."""

    # --- state --------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything; torch's global generator is the loop's."""
        return {
            "agent": self.agent.state_dict(),
            "replay": None if self.replay is None else self.replay.state_dict(),
            "rng": self.rng.bit_generator.state,
            "steps": self.steps,
            "learned": self.learned,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.agent.load_state_dict(state["agent"])
        if self.replay is not None:
            self.replay.load_state_dict(state["replay"])
        self.rng.bit_generator.state = state["rng"]
        self.steps, self.learned = state["steps"], state["learned"]

    def final_state_dict(self) -> dict[str, Any]:
        """What the published checkpoint holds: all that is needed to play."""
        return {"agent": self.agent.final_state_dict()}

    def parameter_counts(self) -> dict[str, int]:
        return self.agent.parameter_counts()
