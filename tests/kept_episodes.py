"""Roll-outs of which every step is kept, in the order of the seeds; nothing but tests looks at all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from rarl.collect.play import Recorder
from rarl.envs.vector import VectorEnv
from rarl.rollouts import evaluation as evaluations
from rarl.rollouts.evaluation import Evaluation
from rarl.rollouts.roll_out import Acting, Episodes, Watch, roll_out


@dataclass(frozen=True, kw_only=True)
class KeptEpisodes(Episodes):
    """Zeros behind shorter ones: observations (E, T + 1, ...), actions (E, T) int64, rewards (E, T) float32."""

    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray


class _Keeping(Recorder):
    def __init__(self, envs: VectorEnv):
        super().__init__(envs)
        self.begun: list[Any] = []

    @property
    def measured(self):
        return self.envs.measured

    def reset(self, seeds: Sequence[int] | np.ndarray, where: np.ndarray) -> np.ndarray:
        x = super().reset(seeds, where)
        self.begun += [self._playing[i] for i in where]
        return x

    def all_of(self, name: str, dtype: str | None = None) -> np.ndarray:
        rows = [np.array(getattr(episode, name), dtype) for episode in self.begun]
        whole = np.zeros((len(rows), max(map(len, rows)), *rows[0].shape[1:]), rows[0].dtype)
        for place, row in zip(whole, rows, strict=True):
            place[: len(row)] = row
        return whole


def roll_out_kept(
    envs: VectorEnv, act: Acting, seeds: Sequence[int] | np.ndarray, *, watch: Watch | None = None
) -> KeptEpisodes:
    """As `roll_out`."""
    keeping = _Keeping(envs)
    found = roll_out(keeping, act, seeds, watch=watch)
    return KeptEpisodes(
        **vars(found),
        observations=keeping.all_of("observations"),
        actions=keeping.all_of("actions", "int64"),
        rewards=keeping.all_of("rewards", "float32"),
    )


_play = Evaluation.play  # tests may put something else in its place


def play_kept(evaluation: Evaluation, act: Any, **more: Any) -> KeptEpisodes:
    """As `Evaluation.play`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluations, "roll_out", roll_out_kept)
        return _play(evaluation, act, **more)
