"""What all value learners share: networks, optimiser, which loss trains what, target network, state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from rarl.agents.build import build_network, copy_network, count_reached, parameter_counts
from rarl.agents.diagnosis import Asking, diagnose
from rarl.agents.losses import weighted_mean
from rarl.agents.masking import Masking, MaskingLoss
from rarl.agents.memory import RetrievalBatch
from rarl.config.scale import Run
from rarl.envs.spec import EnvSpec, spec_of
from rarl.errors import required
from rarl.learners.captured import CapturedStep, replaced
from rarl.nn.auxiliary import AuxiliaryLosses, Supports
from rarl.nn.bottleneck import gaussian_kl
from rarl.nn.retrieval import Readable, RetrievalStep, Summaries
from rarl.rollouts.evaluation import Evaluation
from rarl.trajectories.store import TrajectoryDataset

T = TypeVar("T")
_DIAGNOSIS = 20  # stream of random numbers
ASKING = 16  # states (or sequences) of each task on which retrieval is diagnosed


def supports_of(spec: EnvSpec, discount: float) -> Supports:
    """Least and largest reward and discounted return that predictions can express."""
    horizon = 1 / (1 - discount) if discount < 1 else float("inf")
    (lowest, highest), (least, most) = spec.reward_range, spec.return_range
    return Supports(
        spec.reward_range,
        (max(least, lowest * horizon if lowest else 0.0), min(most, highest * horizon)),
        *spec.range_points,
    )


class Losses(NamedTuple):
    """What a learner step minimises.

    None: off. conservative, auxiliary, relevance, contrastive: weighted by the settings of their names. kl: in nats as
    the setting `kl` counts them, None where the bottleneck has no price; weighted by the setting `bottleneck`. scalars:
    more to log. masking: weighted by the setting `masking.weight`.
    """

    td: Float[Tensor, ""]
    conservative: Float[Tensor, ""] | None
    kl: Float[Tensor, ""] | None
    auxiliary: Float[Tensor, ""] | None
    scalars: Mapping[str, Tensor]
    relevance: Float[Tensor, ""] | None = None
    contrastive: Float[Tensor, ""] | None = None
    masking: MaskingLoss | None = None


class Retrieved(NamedTuple):
    """One retrieval batch of a learner step, as both networks summarise it.

    batch: its trajectories. online: with gradients. target: without. readable: what of it the states to learn from may
    read. All None for an agent that retrieves nothing.
    """

    batch: RetrievalBatch | None = None
    online: Summaries | None = None
    target: Summaries | None = None
    readable: Readable | None = None

    @property
    def read(self) -> tuple[RetrievalBatch, Summaries]:
        """Batch and summaries with gradients, of an agent that retrieves."""
        return required(self.batch, "retrieval batch"), required(self.online, "summaries")

    def apart_from(self, exclude: Bool[Tensor, "G B n_traj"] | None) -> Retrieved:
        """The same for states that must not read some of the trajectories."""
        return self if self.online is None else self._replace(readable=self.online.readable(exclude))


class StepInputs(NamedTuple):
    """What is drawn for a learner step, on the CPU.

    learn: what is learned from. retrieval: of each group; None: nothing is retrieved. exclude: trajectories that states
    must not read (the setting `keep_apart`); None: none. masking: trajectories for the masking loss. scalars: to log.
    Arrays are for whoever draws: what is computed on the device sees tensors alone.
    """

    learn: Any
    retrieval: RetrievalBatch | None = None
    exclude: Bool[Tensor, "G B n_traj"] | None = None
    masking: RetrievalBatch | None = None
    scalars: Mapping[str, float] = {}


class ValueLearner(ABC):
    """Double Q-learning on stored data; with a retrieval process where the agent has one.

    Which loss trains what, as in the paper: the encoder by the TD and the auxiliary losses; the retrieval process by
    the TD loss and the bottleneck; the head by the TD loss alone. The summariser, a part of the retrieval process, is
    reached by the auxiliary losses too, since they are computed on the summaries. A masking loss trains the encoder and
    the summariser.

    Args:
      run: the settings.
      n_tasks: number of tasks.
      device: where the networks are.
      n_actions: number of actions.
      datasets: from which masked trajectories are drawn, one per task; none: the learner has others.
    """

    def __init__(
        self,
        run: Run,
        n_tasks: int,
        device: str,
        n_actions: int,
        datasets: Sequence[TrajectoryDataset] = (),
    ):
        self.settings, self.device = run.settings, torch.device(device)
        s, learning = run.settings, run.settings.learning
        self.rng = np.random.default_rng([s.seed, 1])
        self.updates_done = 0
        self.n_actions, self.n_tasks = n_actions, n_tasks

        spec = spec_of(s.environment)
        self.network = build_network(s, n_actions, n_tasks).to(self.device)
        self.target = copy_network(self.network, s, n_actions)
        retrieval = s.agent.retrieval
        self._network_parameters: list[Tensor] = list(self.network.parameters())
        self._target_parameters: list[Tensor] = list(self.target.parameters())
        self.auxiliary: AuxiliaryLosses | None = None
        if run.retrieves and retrieval.auxiliary > 0:
            self.auxiliary = AuxiliaryLosses(retrieval.d_h, n_actions, supports_of(spec, learning.discount))
            self.auxiliary.to(self.device)
        self.masking = Masking.of(run, datasets, self.device)
        self.parameters = [*self.network.parameters(), *(self.auxiliary.parameters() if self.auxiliary else ())]
        self.parameters += self.masking.predictor.parameters() if self.masking else ()
        self.retrieval_parameters = list(self.network.process.parameters()) if s.agent.with_retrieval else []
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
        self._step: Callable[[StepInputs], dict[str, Tensor]] = self._plain_step
        if s.cuda_graph == "auto" and self.device.type == "cuda" and not retrieval.first_updates and not self.masking:
            self._step = CapturedStep(self._plain_step, self._changed_by_a_step, self.device)
        self._place_rates()

        self.beside: dict[str, nn.Module] = {}

    def _learn_beside(self, name: str, module: nn.Module) -> None:
        """A module that learns along with the network and is no part of it; in `__init__`."""
        module.to(self.device)
        self.beside[name] = module
        self.parameters += module.parameters()
        self.optimiser.add_param_group({"params": list(module.parameters()), "multiple": 1.0})

    # --- one learner step ---------------------------------------------------------------------------------------------

    @abstractmethod
    def _draw(self) -> StepInputs:
        """Draw what this learner step learns from."""

    @abstractmethod
    def _losses_of(self, drawn: StepInputs) -> Losses:
        """The losses of a learner step: a function of what was drawn and of the networks, which computes on the device
        without looking at what it has computed."""

    def _own_episodes(
        self, retrieval: RetrievalBatch | None, given: Int[np.ndarray, "G B"], episodes: Int[np.ndarray, "G B"]
    ) -> Bool[Tensor, "G B n_traj"] | None:
        """Which trajectories states of these datasets and episodes must not read, by the setting `keep_apart`."""
        if retrieval is None or self.settings.agent.retrieval.keep_apart == "none":
            return None
        return retrieval.of_own_episode(given, episodes)

    def _on_device(self, drawn: T) -> T:
        """What was drawn, or a part of it, where the networks are."""
        if self.device.type == "cpu":
            return drawn
        return cast(T, replaced(drawn, lambda part: part.to(self.device, non_blocking=True)))

    def update(self) -> Mapping[str, float | Tensor]:
        """One learner step."""
        drawn = self._draw()
        for group in self.optimiser.param_groups:
            rate = group["multiple"] * self._learning_rate()
            if torch.is_tensor(group["lr"]):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
        found = self._step(drawn._replace(scalars={}))
        self.updates_done += 1
        period = self.settings.learning.target_period_updates
        if period and self.updates_done % period == 0:
            self.target.load_state_dict(self.network.state_dict())
        return {**drawn.scalars, **self._learned(drawn, found)}

    def _learned(self, drawn: StepInputs, found: dict[str, Tensor]) -> dict[str, Tensor]:
        """What comes after a learner step: what of all that it has found is to be logged."""
        return found

    def _plain_step(self, drawn: StepInputs) -> dict[str, Tensor]:
        """From what was drawn to the optimiser's step; what is to be logged."""
        learning, retrieval = self.settings.learning, self.settings.agent.retrieval
        losses = self._losses_of(self._on_device(drawn))
        loss = losses.td
        scalars = {"loss": loss.detach(), "td_loss": loss.detach(), **losses.scalars}
        if losses.conservative is not None:
            loss = loss + learning.conservative * losses.conservative
            scalars |= {"conservative_loss": losses.conservative.detach(), "loss": loss.detach()}
        if losses.auxiliary is not None:
            loss = loss + retrieval.auxiliary * losses.auxiliary
            scalars |= {"auxiliary_loss": losses.auxiliary.detach(), "loss": loss.detach()}
        if losses.relevance is not None:
            loss = loss + retrieval.relevance * losses.relevance
            scalars |= {"relevance_loss": losses.relevance.detach(), "loss": loss.detach()}
        if losses.contrastive is not None:
            loss = loss + retrieval.contrastive * losses.contrastive
            scalars |= {"contrastive_loss": losses.contrastive.detach(), "loss": loss.detach()}
        if losses.masking is not None:
            loss = loss + learning.masking.weight * losses.masking.loss
            scalars |= {**losses.masking.scalars, "loss": loss.detach()}
        self.optimiser.zero_grad(set_to_none=True)
        if losses.kl is not None:
            price = retrieval.bottleneck * losses.kl
            # Into the retrieval process only: the encoder does not pay for the bottleneck.
            costs = torch.autograd.grad(price, self.retrieval_parameters, retain_graph=True, allow_unused=True)
            for parameter, cost in zip(self.retrieval_parameters, costs, strict=True):
                parameter.grad = cost
            price = price.detach()
            # Where the price is far above what the values still have to gain, the bottleneck closes.
            scalars |= {
                "kl": losses.kl.detach(),
                "price_per_td_loss": price / losses.td.detach().clamp(min=1e-8),
                "loss": loss.detach() + price,
            }
        loss.backward()
        scalars["gradient_norm"] = nn.utils.clip_grad_norm_(self.parameters, learning.max_gradient_norm, foreach=True)
        self.optimiser.step()
        if learning.target_rate is not None:
            with torch.no_grad():
                torch._foreach_lerp_(self._target_parameters, self._network_parameters, learning.target_rate)
        return scalars

    def _place_rates(self) -> None:
        """A captured graph reads the learning rates where they are; none outlives a change of the optimiser."""
        if isinstance(self._step, CapturedStep):
            self._step.forget()
            for group in self.optimiser.param_groups if self.device.type == "cuda" else ():
                group["lr"] = torch.tensor(float(group["lr"]), device=self.device)
                group["capturable"] = True

    def _changed_by_a_step(self) -> list[Tensor]:
        """All tensors that a learner step changes, but for gradients."""
        modules = [self.network, self.target, *([self.auxiliary] if self.auxiliary else []), *self.beside.values()]
        tensors = [part for module in modules for part in module.state_dict(keep_vars=True).values()]
        return tensors + [part for state in self.optimiser.state.values() for part in state.values()]

    def _tasks_of_batch(self, size: int) -> tuple[np.ndarray, int]:
        """Task ids (G,) of a learner batch, and how many of its `size` examples each gets."""
        asked = self.settings.learning.tasks_per_batch or self.n_tasks
        groups = min(asked, self.n_tasks)
        everything = groups == self.n_tasks
        tasks = np.arange(groups) if everything else self.rng.choice(self.n_tasks, groups, replace=False)
        return tasks, max(size // groups, 1)

    def _summarise(self, batch: RetrievalBatch) -> Retrieved:
        """A retrieval batch as both networks summarise it."""
        batch = batch.to(self.device)
        retrieval = self.settings.agent.retrieval
        online = batch.summarise(self.network, retrieval.gradient_trajectories)
        if retrieval.target_reads == "online":
            return Retrieved(batch, online, online.map(Tensor.detach))
        with torch.no_grad():
            return Retrieved(batch, online, batch.summarise(self.target))

    def _auxiliary(self, retrieved: Retrieved) -> Tensor | None:
        """The auxiliary losses on the online network's summaries; None if they are off."""
        if self.auxiliary is None:
            return None
        batch, summaries = retrieved.read
        return self.auxiliary(summaries.h, summaries.b, batch.a, batch.r, batch.value, batch.mask)

    def _masking(self, batch: RetrievalBatch | None) -> MaskingLoss | None:
        """The masking loss on the trajectories that were drawn for it; None if it is off."""
        if self.masking is None or batch is None:
            return None
        return self.masking.loss(self.network, batch.to(self.device), self.rng)

    def _kl(self, step: RetrievalStep | None, weight: Bool[Tensor, "*b"] | None = None) -> Float[Tensor, ""] | None:
        """Mean over states of KL(p || r), in nats: of all slots and dimensions together, or per dimension.

        None without a bottleneck, or with one that has no price.

        Args:
          step: what the retrieval process gave; None: there is none.
          weight: of each state; None: all alike.
        """
        if step is None or step.p is None or step.r is None:
            return None
        kl = gaussian_kl(step.p, step.r).sum(-1)
        if self.settings.agent.retrieval.kl == "mean":
            kl = kl / step.z.shape[-2:].numel()
        return kl.mean() if weight is None else weighted_mean(kl, weight)

    def _learning_rate(self) -> float:
        s, done = self.settings.learning, self.updates_done
        rate = s.learning_rate * min(1.0, (done + 1) / max(s.warm_up_updates, 1))
        progress = done / self.settings.updates
        if progress > s.decay_from:
            rate *= 1 - (1 - s.decay_to) * (progress - s.decay_from) / (1 - s.decay_from)
        return rate

    # --- evaluation ---------------------------------------------------------------------------------------------------

    def evaluate(self) -> list[dict[str, Any]]:
        """Greedy episodes of every task, from starts that are the same at every evaluation and for every agent.

        One row per task: task, episodes, return_mean, return_std, success_rate. Returns are neither clipped nor
        discounted.
        """
        evaluation = Evaluation.of(self.settings)
        batch = self._batch_to_evaluate(evaluation)
        with torch.no_grad():
            retrieved = None if batch is None else batch.to(self.device).summarise(self.network)
        return evaluation.rows(evaluation.play(evaluation.policy(self.network, retrieved)))

    @abstractmethod
    def _batch_to_evaluate(self, evaluation: Evaluation) -> RetrievalBatch | None:
        """The retrieval batches of an evaluation; None for an agent that retrieves nothing, or has nothing yet."""

    def diagnose(self) -> dict[str, float]:
        """What is retrieved and whether it is used, on states that are the same in all of a run; see `diagnose`.

        Empty for an agent that retrieves nothing, or has nothing to retrieve from yet.
        """
        if not self.settings.agent.retrieves:
            return {}
        seed = self.settings.seed, self.settings.evaluation.board_seed
        of_states, of_batches = (np.random.default_rng([*seed, _DIAGNOSIS + stream]) for stream in range(2))
        one, other = (self._batch_to_diagnose(of_batches) for _ in range(2))
        if one is None or other is None:
            return {}
        return diagnose(self.network, self._asking(of_states), one.to(self.device), other.to(self.device))

    @abstractmethod
    def _asking(self, rng: np.random.Generator) -> Asking:
        """The states on which retrieval is diagnosed: of every task, or of all where one batch serves all."""

    @abstractmethod
    def _batch_to_diagnose(self, rng: np.random.Generator) -> RetrievalBatch | None:
        """A retrieval batch for each group of the states; None if there is nothing to retrieve from yet."""

    # --- state --------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything; torch's global generator is the loop's."""
        state = {
            "network": self.network.state_dict(),
            "target": self.target.state_dict(),
            "auxiliary": self.auxiliary.state_dict() if self.auxiliary else {},
            "beside": {name: module.state_dict() for name, module in self.beside.items()},
            "optimiser": _with_numbers(self.optimiser.state_dict()),
            "rng": self.rng.bit_generator.state,
            "updates_done": self.updates_done,
        }
        return state | ({"masking": self.masking.state_dict()} if self.masking else {})

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.target.load_state_dict(state["target"])
        if self.auxiliary:
            self.auxiliary.load_state_dict(state["auxiliary"])
        for name, module in self.beside.items():
            module.load_state_dict(state["beside"][name])
        if self.masking:
            self.masking.load_state_dict(state["masking"])
        self.optimiser.load_state_dict(state["optimiser"])
        self._place_rates()
        self.rng.bit_generator.state = state["rng"]
        self.updates_done = state["updates_done"]

    def final_state_dict(self) -> dict[str, Any]:
        """What the published checkpoint holds."""
        return {"network": self.network.state_dict()}

    def parameter_counts(self) -> dict[str, int]:
        """Parameters that were trained; see `rarl.agents.build.parameter_counts`. None before the first update."""
        reached = set(self.optimiser.state) | (set(self.masking.optimiser.state) if self.masking else set())
        beside = {name: count_reached(module, reached) for name, module in self.beside.items()}
        masking = self.masking.modules if self.masking else None
        return parameter_counts(self.network, reached, self.auxiliary, masking) | beside


def _with_numbers(optimiser: dict[str, Any]) -> dict[str, Any]:
    """An optimiser's state with learning rates as numbers, wherever they were."""
    return optimiser | {"param_groups": [group | {"lr": float(group["lr"])} for group in optimiser["param_groups"]]}
