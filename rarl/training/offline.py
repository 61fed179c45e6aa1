"""Offline multi-task learning of (RA-)DQN: the learner that `rarl.training.loop.train` drives."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rarl import provenance
from rarl.agents.build import build_network, copy_network, parameter_counts
from rarl.agents.losses import q_learning_target, td_loss
from rarl.agents.memory import Memory
from rarl.config import Run, Scale
from rarl.envs.gridroboman.tasks import ACTIONS, task_named
from rarl.envs.gridroboman.vector import random_boards
from rarl.errors import RarlError
from rarl.evaluation.rollouts import roll_out
from rarl.nn.auxiliary import AuxiliaryLosses
from rarl.training.device import choose_device
from rarl.training.loop import Budget, Settings, train
from rarl.training.run_folder import RunPaths
from rarl.trajectories.sampling import TransitionSampler
from rarl.trajectories.store import TrajectoryDataset

log = logging.getLogger(__name__)

# What the loop's code digest depends on: everything that can change a run's result.
CODE = ["rarl.training.offline", "rarl.training.loop"]


class OfflineLearner:
    """Double DQN on stored transitions of many tasks; with a retrieval process where the agent has one.

    Which loss trains what, as in the paper: the encoder by the TD and the auxiliary losses; the retrieval process by
    the TD loss and the bottleneck; the head by the TD loss alone. The summariser, a part of the retrieval process, is
    reached by the auxiliary losses too, since they are computed on the summaries.

    Args:
      run: the settings.
      datasets: one per task, in the order of the task ids.
      device: where the networks are.
    """

    def __init__(self, run: Run, datasets: list[TrajectoryDataset], device: str):
        self.settings, self.device = run.settings, torch.device(device)
        s, learning = run.settings, run.settings.learning
        self.tasks = [task_named(name) for name in run.tasks]
        self.transitions = TransitionSampler(datasets, learning.discount, learning.n_step)
        self.rng = np.random.default_rng([s.seed, 1])
        self.updates_done = 0

        shape = (s.agent, len(ACTIONS), len(self.tasks))
        self.network = build_network(*shape).to(self.device)
        self.target = copy_network(self.network, *shape)
        retrieval = s.agent.retrieval
        self._network_parameters, self._target_parameters = (list(n.parameters()) for n in (self.network, self.target))
        # Those that checkpoints hold; the others are constants.
        moving = self.network.state_dict().keys() - dict(self.network.named_parameters()).keys()
        self._moving_buffers = [(self.target.get_buffer(name), self.network.get_buffer(name)) for name in moving]
        self.memory = Memory(datasets, retrieval, learning.discount, s.seed) if run.retrieves else None
        self.auxiliary = None
        if self.memory is not None and retrieval.auxiliary > 0:
            horizon = 1 / (1 - learning.discount) if learning.discount < 1 else 50.0
            self.auxiliary = AuxiliaryLosses(retrieval.d_h, len(ACTIONS), (0.0, 1.0), (0.0, min(horizon, 50.0)))
            self.auxiliary.to(self.device)
        self.parameters = [*self.network.parameters(), *(self.auxiliary.parameters() if self.auxiliary else ())]
        self.retrieval_parameters = list(self.network.retrieval.parameters()) if self.network.retrieval else []
        slow = [*self.retrieval_parameters, *(self.auxiliary.parameters() if self.auxiliary else ())]
        encoder = list(self.network.encoder.parameters())
        apart = {id(p) for p in (*slow, *encoder)}
        groups = [
            {"params": [p for p in self.parameters if id(p) not in apart], "multiple": 1.0},
            {"params": encoder, "multiple": learning.encoder_rate},
            {"params": slow, "multiple": learning.retrieval_rate},
        ]
        self.optimiser = torch.optim.Adam(
            [group for group in groups if group["params"]],
            learning.learning_rate,
            eps=learning.adam_epsilon,
            fused=True,
        )

    # --- one learner step ---------------------------------------------------------------------------------------------

    def update(self) -> Mapping[str, float | Tensor]:
        """One learner step on G tasks with B states each."""
        s, learning = self.settings, self.settings.learning
        n_tasks = len(self.tasks)
        groups = min(learning.tasks_per_batch or n_tasks, n_tasks)
        each = max(learning.batch_states // groups, 1)
        tasks = np.arange(n_tasks) if groups == n_tasks else self.rng.choice(n_tasks, groups, replace=False)
        batch = self.transitions.sample(np.repeat(tasks, each), self.rng)
        x_tm1, a_tm1, r_t, discount_t, x_t = (
            torch.from_numpy(array).to(self.device).view(groups, each, *array.shape[1:])
            for array in (batch.x_tm1, batch.a_tm1.astype(np.int64), batch.r_t, batch.discount_t, batch.x_t)
        )
        task = torch.from_numpy(tasks).to(self.device)[:, None].expand(groups, each)

        retrieved = target_retrieved = memory = None
        if self.memory is not None:
            memory = self.memory.sample(tasks, self.rng).to(self.device)
            retrieved = memory.summarise(self.network)
            with torch.no_grad():
                target_retrieved = memory.summarise(self.target)
        with torch.no_grad():
            q_t_online = self.network(x_t, task, retrieved)[0] if learning.double else None
            q_t_target = self.target(x_t, task, target_retrieved)[0]
            target = q_learning_target(r_t, discount_t, q_t_target, q_t_online)
        bottleneck = s.agent.retrieval.bottleneck
        q_tm1, step = self.network(x_tm1, task, retrieved, sample=bottleneck > 0)
        td = td_loss(q_tm1, a_tm1, target, learning.huber_delta).mean()
        scalars = {"loss": td.detach(), "td_loss": td.detach(), "q_mean": q_tm1.detach().mean()}
        loss = td
        if self.auxiliary is not None:
            auxiliary = self.auxiliary(retrieved.h, retrieved.b, memory.a, memory.r, memory.value, memory.mask)
            loss = loss + s.agent.retrieval.auxiliary * auxiliary
            scalars |= {"auxiliary_loss": auxiliary.detach(), "loss": loss.detach()}

        self.optimiser.zero_grad(set_to_none=True)
        if step is not None:
            with torch.set_grad_enabled(bottleneck > 0):
                kl = step.kl.mean()
            scalars["kl"] = kl.detach()
            if bottleneck > 0:
                # Into the retrieval process only: the encoder does not pay for the bottleneck.
                costs = torch.autograd.grad(
                    bottleneck * kl, self.retrieval_parameters, retain_graph=True, allow_unused=True
                )
                for parameter, cost in zip(self.retrieval_parameters, costs, strict=True):
                    parameter.grad = cost
                scalars["loss"] = loss.detach() + bottleneck * kl.detach()
        loss.backward()
        scalars["gradient_norm"] = nn.utils.clip_grad_norm_(self.parameters, learning.max_gradient_norm)
        for group in self.optimiser.param_groups:
            group["lr"] = group["multiple"] * self._learning_rate()
        self.optimiser.step()
        self.updates_done += 1
        self._move_target()
        return scalars

    def _learning_rate(self) -> float:
        s, done = self.settings.learning, self.updates_done
        rate = s.learning_rate * min(1.0, (done + 1) / max(s.warm_up_updates, 1))
        progress = done / self.settings.updates
        if progress > s.decay_from:
            rate *= 1 - (1 - s.decay_to) * (progress - s.decay_from) / (1 - s.decay_from)
        return rate

    @torch.no_grad()
    def _move_target(self) -> None:
        s = self.settings.learning
        if s.target_rate is not None:
            torch._foreach_lerp_(self._target_parameters, self._network_parameters, s.target_rate)
            for mine, online in self._moving_buffers:
                mine.copy_(online)
        elif self.updates_done % s.target_period_updates == 0:
            self.target.load_state_dict(self.network.state_dict())

    # --- evaluation ---------------------------------------------------------------------------------------------------

    def evaluate(self) -> list[dict[str, Any]]:
        """Greedy episodes of every task on boards that are the same at every evaluation of this run."""
        s = self.settings.evaluation
        # Streams of their own, so that agents with and without retrieval meet the same boards and the same exploration.
        of_boards, of_exploration, of_memory = (
            np.random.default_rng([self.settings.seed, s.board_seed, stream]) for stream in range(3)
        )
        boards = random_boards(len(self.tasks) * s.episodes_per_task, of_boards)
        blocks = 1
        if self.memory is not None:
            divisors = (n for n in range(1, s.retrieval_batches + 1) if s.episodes_per_task % n == 0)
            blocks = max(divisors)
        task_ids = np.repeat(np.arange(len(self.tasks)), blocks)
        retrieved = None
        with torch.no_grad():
            if self.memory is not None:
                retrieved = self.memory.sample(task_ids, of_memory).to(self.device).summarise(self.network)
        tasks = [self.tasks[i] for i in task_ids]
        episodes = roll_out(
            self.network, tasks, task_ids, s.episodes_per_task // blocks, retrieved, of_exploration, s.epsilon, boards
        )
        returns = episodes.returns.reshape(len(self.tasks), -1)
        at_end = episodes.rewards[:, -1].reshape(len(self.tasks), -1)
        return [
            {
                "task": task.name,
                "episodes": returns.shape[1],
                "return_mean": float(returns[i].mean()),
                "return_std": float(returns[i].std(ddof=1)) if returns.shape[1] > 1 else 0.0,
                "success_rate": float(at_end[i].mean()),
            }
            for i, task in enumerate(self.tasks)
        ]

    # --- state --------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything; torch's global generator is the loop's."""
        return {
            "network": self.network.state_dict(),
            "target": self.target.state_dict(),
            "auxiliary": self.auxiliary.state_dict() if self.auxiliary else {},
            "optimiser": self.optimiser.state_dict(),
            "rng": self.rng.bit_generator.state,
            "updates_done": self.updates_done,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.target.load_state_dict(state["target"])
        if self.auxiliary:
            self.auxiliary.load_state_dict(state["auxiliary"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.rng.bit_generator.state = state["rng"]
        self.updates_done = state["updates_done"]

    def final_state_dict(self) -> dict[str, Any]:
        """What the published checkpoint holds."""
        return {"network": self.network.state_dict()}

    def parameter_counts(self) -> dict[str, int]:
        return parameter_counts(self.network, self.auxiliary)


def open_datasets(scale: Scale, run: Run) -> list[TrajectoryDataset]:
    """The run's datasets, every byte checked against its manifest."""
    folders = [scale.root / "data" / scale.name / name for name in scale.datasets_of(run)]
    missing = [folder for folder in folders if not (folder / "manifest.json").is_file()]
    if missing:
        name = scale.datasets_of(run)[folders.index(missing[0])]
        raise RarlError(
            f"{missing[0]}: no dataset ({len(missing)} of {len(folders)} are missing); `dvc checkout` or `dvc pull` "
            f"brings recorded ones, `rarl datasets make --scale {scale.name} {name}` makes it"
        )
    return [TrajectoryDataset.open(folder) for folder in folders]


def train_run(
    scale: Scale,
    run: Run,
    *,
    device: str = "auto",
    force: bool = False,
    restart_if_changed: bool = False,
    record_failure: bool = False,
) -> dict[str, Any]:
    """Train one run of a scale to its end and publish its record; see `rarl.training.loop.train`."""
    s = run.settings
    datasets = open_datasets(scale, run)
    chosen = choose_device(device)
    record = {
        "run": run.id,
        "scale": scale.name,
        "experiment": s.experiment,
        "task_set": f"{s.task_set}-tasks",
        "variant": s.variant,
        "seed": s.seed,
        "config": s.model_dump(mode="json", exclude={"checkpoint_seconds", "tensorboard"}),
        "config_digest": run.digest,
        "code_digest": provenance.code_digest(CODE),
        "data": {str(d.folder.relative_to(scale.root) / "manifest.json"): d.manifest_sha256 for d in datasets},
        "expert_returns": {d.task: d.manifest["expert_return"] for d in datasets},
    }
    return train(
        lambda: OfflineLearner(run, datasets, chosen),
        Budget(s.updates, s.evaluation.every_updates, s.log_every, s.checkpoint_seconds),
        RunPaths.of(run.id, scale.name, scale.root),
        record=record,
        settings=Settings(device=chosen, threads=s.threads, tensorboard=s.tensorboard),
        force=force,
        restart_if_changed=restart_if_changed,
        record_failure=record_failure,
    )
