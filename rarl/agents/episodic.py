"""Episodic control: actions by the values of the most similar states that an action was taken in before.

MFEC: "Model-Free Episodic Control", Blundell et al. 2016 (arXiv:1606.04460). NEC: "Neural Episodic Control", Pritzel et
al. 2017 (arXiv:1703.01988). Both keep an `EpisodicMemory` for each action; they differ in what makes a key, how
neighbours are averaged, which return is stored, and what becomes of the value of a state that is there already.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from rarl.agents.build import encoder_of
from rarl.agents.episodic_memory import EpisodicMemory, Values, state_hashes
from rarl.agents.exploration import any_of_the_best
from rarl.config.settings import RunSettings
from rarl.errors import required

_PROJECTION = 4  # stream of the run's seed that MFEC's projection is drawn from
_RMSPROP_DECAY, _RMSPROP_EPSILON = 0.95, 0.01  # as in DQN; the papers name the method alone


# --- pure functions ---------------------------------------------------------------------------------------------------


def n_step_returns(
    rewards: Float[np.ndarray, "*b T"], values: Float[np.ndarray, "*b T+1"], discount: float, n: int
) -> Float[np.ndarray, "*b T"]:
    """R_t = sum_{j < m} γ^j r_{t+j} + γ^m V_{t+m} with m = n, or what is left of the episode (NEC, equation 3).

    Args:
      rewards: of one episode in each row; rewards[..., t] is what the action of step t gave.
      values: V of the state of each step and of the one after the last; that is 0 where the episode
        terminated. All 0: the returns of MFEC's equation 1, for n >= T.
      discount: gamma.
      n: at least 1.
    """
    steps = rewards.shape[-1]
    to_end = np.zeros(values.shape)
    for t in reversed(range(steps)):
        to_end[..., t] = rewards[..., t] + discount * to_end[..., t + 1]
    now = np.arange(steps)
    ahead = np.minimum(now + n, steps)
    returns: np.ndarray = to_end[..., :-1] + discount ** (ahead - now) * (values[..., ahead] - to_end[..., ahead])
    return returns


def kernel_mean(
    queries: Float[Tensor, "B d_key"],
    keys: Float[Tensor, "B k d_key"],
    values: Float[Tensor, "B k"],
    delta: float,
    real: Bool[Tensor, "B k"] | None = None,
) -> Float[Tensor, " B"]:
    """Mean of neighbours' values with weights 1 / (d² + δ), d the distance of keys (NEC, equations 1, 2 and 5).

    real: the neighbours that there are (None: all); 0 without any.
    """
    weights = 1 / ((queries[:, None] - keys).square().sum(-1) + delta)
    if real is None:
        return (weights * values).sum(-1) / weights.sum(-1)
    weights = weights * real
    return (weights * values).sum(-1) / torch.where(real.any(-1), weights.sum(-1), 1.0)


@torch.no_grad()
def rmsprop(
    parameter: Float[Tensor, "*b"], gradient: Float[Tensor, "*b"], squares: Float[Tensor, "*b"], rate: float
) -> None:
    """One step of RMSprop, in place; squares: the running average of the squared gradient, updated too.

    epsilon is added under the root, as where DQN's settings come from.
    """
    squares.mul_(_RMSPROP_DECAY).addcmul_(gradient, gradient, value=1 - _RMSPROP_DECAY)
    parameter.addcdiv_(gradient, (squares + _RMSPROP_EPSILON).sqrt_(), value=-rate)


# --- agents -----------------------------------------------------------------------------------------------------------


class Looked(NamedTuple):
    """What an agent found about B states.

    q: estimates.
    """

    q: Float[np.ndarray, "B n_actions"]
    keys: Float[np.ndarray, "B d_key"]
    hashes: list[bytes]

    @property
    def value(self) -> Float[np.ndarray, " B"]:
        """Of the best action."""
        best: np.ndarray = self.q.max(1)
        return best

    def best(self, rng: np.random.Generator) -> Int[np.ndarray, " B"]:
        """Actions of the largest estimates. Equal ones are frequent here, and one action must not win them all."""
        return any_of_the_best(self.q, rng)


class EpisodicAgent(ABC):
    """Memories and what asks them.

    An action that nothing is remembered of is worth 0; fewer than k neighbours are averaged as they are. The papers say
    nothing about either; other implementations begin with k far away entries of value 0, which is the same for an empty
    memory, but draws the first estimates towards 0. The first steps are random, so that neither lasts.

    If the task is observed, every task has memories of its own; if it is hidden, one memory of an action serves all
    tasks, and the same state's value is that of whichever task has written it.

    Args:
      settings: of the run.
      n_actions: number of actions.
      n_tasks: number of tasks.
      d_key: width of keys.
      moments: of the memories.

    Attributes:
      memories: of each task (or one for all) a list by action.
    """

    def __init__(self, settings: RunSettings, n_actions: int, n_tasks: int, d_key: int, moments: bool = False):
        s = self.settings = required(settings.episodic, "episodic")
        self.n_actions, self.d_key, self.told = n_actions, d_key, settings.agent.task == "observed"
        self.memories = [
            [
                EpisodicMemory(d_key, s.capacity, approximate=s.search == "ivf", moments=moments)
                for _ in range(n_actions)
            ]
            for _ in range(n_tasks if self.told else 1)
        ]
        self._numbered = [memory for memories in self.memories for memory in memories]

    def __len__(self) -> int:
        """Entries of all memories."""
        return sum(map(len, self._numbered))

    @abstractmethod
    def embed(self, x: Shaped[np.ndarray, "B ..."], tasks: Int[np.ndarray, " B"]) -> Float[np.ndarray, "B d_key"]:
        """The keys, float32, of states x of these tasks."""

    @abstractmethod
    def _estimate(self, which: np.ndarray, hashes: list[bytes], keys: np.ndarray, use: bool) -> np.ndarray:
        """(B,) values, of each state by the memory `which` (B,)."""

    @abstractmethod
    def merge(self, stored: Values, new: Values) -> Values:
        """The value to keep for a state that is there already."""

    @abstractmethod
    def returns(
        self, rewards: Float[np.ndarray, "*b T"], values: Float[np.ndarray, "*b T+1"], discount: float
    ) -> Float[np.ndarray, "*b T"]:
        """What is stored, as `n_step_returns`."""

    def look(self, x: Shaped[np.ndarray, "B ..."], tasks: Int[np.ndarray, " B"], *, use: bool = True) -> Looked:
        """Estimates for states x of these tasks.

        use: whether entries that are looked at count as used; evaluations leave no trace.
        """
        keys, hashes = self.embed(x, tasks), state_hashes(x)
        q = np.empty((len(x), self.n_actions), dtype=np.float32)
        for action in range(self.n_actions):
            q[:, action] = self._estimate(self._which(tasks, action), hashes, keys, use)
        return Looked(q, keys, hashes)

    def write(
        self,
        tasks: Int[np.ndarray, " B"],
        actions: Int[np.ndarray, " B"],
        hashes: list[bytes],
        keys: Float[np.ndarray, "B d_key"],
        returns: Float[np.ndarray, " B"],
    ) -> int:
        """Store what was played, in the order of playing; how many state-action pairs were there already."""
        new = 0
        for memory, rows in self._by_memory(self._which(tasks, actions)):
            new += memory.write([hashes[row] for row in rows.tolist()], keys[rows], returns[rows], self.merge)
        return len(actions) - new

    def _which(self, tasks: np.ndarray, actions: np.ndarray | int) -> np.ndarray:
        """The memories, by number, of tasks (B,) and actions (B,), or one action: (B,)."""
        return (tasks if self.told else np.zeros_like(tasks)) * self.n_actions + actions

    def _by_memory(self, which: np.ndarray) -> Iterator[tuple[EpisodicMemory, np.ndarray]]:
        """Each of the memories in `which` (B,), and its places there."""
        order = np.argsort(which, kind="stable")
        begins = np.flatnonzero(np.diff(which[order], prepend=-1))
        for rows in np.split(order, begins[1:]) if len(order) else ():
            yield self._numbered[which[rows[0]]], rows

    def state_dict(self) -> dict[str, Any]:
        return {"memories": [[memory.state_dict() for memory in memories] for memories in self.memories]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for memories, saved in zip(self.memories, state["memories"], strict=True):
            for memory, content in zip(memories, saved, strict=True):
                memory.load_state_dict(content)

    def final_state_dict(self) -> dict[str, Any]:
        """What is needed to play."""
        return {"memories": [[memory.final_state_dict() for memory in memories] for memories in self.memories]}

    def parameter_counts(self) -> dict[str, int]:
        return {}


class MFEC(EpisodicAgent):
    """Model-Free Episodic Control: the highest return ever seen, else the mean of the k nearest states' (equation 2).

    Keys are a Gaussian random projection of the state to d_key numbers, or without d_key the state itself (section 3).

    Args:
      settings, n_actions, n_tasks: as for all.
      size: numbers in a state.
    """

    def __init__(self, settings: RunSettings, n_actions: int, n_tasks: int, size: int):
        d_key = required(settings.episodic, "episodic").d_key
        super().__init__(settings, n_actions, n_tasks, d_key or size)
        self.projection: Float[np.ndarray, "size d_key"] | None = None
        if d_key is not None:
            rng = np.random.default_rng([settings.seed, _PROJECTION])
            self.projection = rng.standard_normal((size, d_key), dtype=np.float32)

    def embed(self, x: Shaped[np.ndarray, "B ..."], tasks: Int[np.ndarray, " B"]) -> Float[np.ndarray, "B d_key"]:
        keys = x.reshape(len(x), -1).astype(np.float32)
        return keys if self.projection is None else keys @ self.projection

    def _estimate(self, which: np.ndarray, hashes: list[bytes], keys: np.ndarray, use: bool) -> np.ndarray:
        values = np.zeros(len(which), dtype=np.float32)
        for memory, places in self._by_memory(which):
            if not len(memory):
                continue
            rows = memory.find([hashes[place] for place in places.tolist()])
            there, novel = rows >= 0, rows < 0
            near = memory.nearest(keys[places[novel]], self.settings.neighbours)
            values[places[there]] = memory.values[rows[there]]
            values[places[novel]] = memory.values[near].mean(1)
            if use:
                memory.use(np.concatenate([rows[there], near.ravel()]))
        return values

    def merge(self, stored: Values, new: Values) -> Values:
        larger: np.ndarray = np.maximum(stored, new)
        return larger

    def returns(
        self, rewards: Float[np.ndarray, "*b T"], values: Float[np.ndarray, "*b T+1"], discount: float
    ) -> Float[np.ndarray, "*b T"]:
        """Monte-Carlo: to the episode's end, also where it was cut off."""
        return n_step_returns(rewards, np.zeros_like(values), discount, rewards.shape[-1])

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"projection": self.projection}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.projection = state["projection"]

    def final_state_dict(self) -> dict[str, Any]:
        return super().final_state_dict() | {"projection": self.projection}


class NECNetwork(nn.Module):
    """The encoder that all agents of an experiment have, and a linear layer from it to keys."""

    __call__: Callable[..., Tensor]

    def __init__(self, settings: RunSettings, n_actions: int, n_tasks: int, d_key: int):
        super().__init__()
        agent = settings.agent
        told = n_tasks if agent.task == "observed" else 0
        self.encoder = encoder_of(settings, n_actions, told)
        self.key = nn.Linear(agent.d_s, d_key)

    def forward(self, x: Shaped[Tensor, "B ..."], task: Int[Tensor, " B"]) -> Float[Tensor, "B d_key"]:
        """The keys of states x of these tasks."""
        keys: Tensor = self.key(torch.relu(self.encoder(x, task)))
        return keys


class Near(NamedTuple):
    """Neighbours of B states, k each, or as many as there are.

    rows: in their memories, -1: none.
    """

    rows: Int[np.ndarray, "B k"]
    keys: Float[np.ndarray, "B k d_key"]
    values: Float[np.ndarray, "B k"]

    @property
    def mask(self) -> Bool[Tensor, "B k"] | None:
        """Those that there are; None: all."""
        real = self.rows >= 0
        return None if real.all() and real.size else torch.from_numpy(real)


class NEC(EpisodicAgent):
    """Neural Episodic Control: N-step returns, averaged by a kernel on keys that the encoder learns to make.

    The key of a state that is stored again is the newest one. With `learn_keys` gradients of the loss also reach the
    stored keys and values (section 3.4), by RMSprop at the same rate; an entry's gradient is the sum over the queries
    that it answered.

    Args:
      settings, n_actions, n_tasks: as for all.
      device: where the network is.
    """

    def __init__(self, settings: RunSettings, n_actions: int, n_tasks: int, device: str = "cpu"):
        s = required(settings.episodic, "episodic")
        super().__init__(settings, n_actions, n_tasks, required(s.d_key, "episodic.d_key"), moments=s.learn_keys)
        self.device = torch.device(device)
        self.network = NECNetwork(settings, n_actions, n_tasks, self.d_key).to(self.device)
        self._parameters = list(self.network.parameters())
        self._squares = [torch.zeros_like(parameter) for parameter in self._parameters]

    def embed(self, x: Shaped[np.ndarray, "B ..."], tasks: Int[np.ndarray, " B"]) -> Float[np.ndarray, "B d_key"]:
        with torch.no_grad():
            return self._encode(x, tasks).numpy(force=True)

    def _encode(self, x: np.ndarray, tasks: np.ndarray) -> Tensor:
        return self.network(*(torch.from_numpy(np.ascontiguousarray(part)).to(self.device) for part in (x, tasks)))

    def _estimate(self, which: np.ndarray, hashes: list[bytes], keys: np.ndarray, use: bool) -> np.ndarray:
        near = self._nearest(which, keys, use)
        queries, stored, values = (torch.from_numpy(part) for part in (keys, near.keys, near.values))
        return kernel_mean(queries, stored, values, self.settings.kernel_delta, near.mask).numpy()

    def _nearest(self, which: np.ndarray, keys: np.ndarray, use: bool) -> Near:
        """The neighbours of states with keys (B, d_key) in the memories `which` (B,)."""
        found = []
        for memory, places in self._by_memory(which):
            rows = memory.nearest(keys[places], self.settings.neighbours)
            if use:
                memory.use(rows)
            found.append((memory, places, rows))
        shape = (len(which), max(rows.shape[1] for *_, rows in found))
        near = Near(
            np.full(shape, -1),
            np.zeros((*shape, self.d_key), dtype=np.float32),
            np.zeros(shape, dtype=np.float32),
        )
        for memory, places, rows in found:
            part = (places, slice(rows.shape[1]))
            near.rows[part], near.keys[part], near.values[part] = rows, memory.keys[rows], memory.values[rows]
        return near

    def merge(self, stored: Values, new: Values) -> Values:
        moved: np.ndarray = stored + np.float32(self.settings.tabular_rate) * (new - stored)
        return moved

    def returns(
        self, rewards: Float[np.ndarray, "*b T"], values: Float[np.ndarray, "*b T+1"], discount: float
    ) -> Float[np.ndarray, "*b T"]:
        return n_step_returns(rewards, values, discount, self.settings.n_step)

    def learn(
        self,
        x: Shaped[np.ndarray, "B ..."],
        tasks: Int[np.ndarray, " B"],
        actions: Int[np.ndarray, " B"],
        returns: Float[np.ndarray, " B"],
        learning_rate: float,
    ) -> float:
        """One step of RMSprop on the squared error of the estimates for what was played; the mean error."""
        keys, which = self._encode(x, tasks), self._which(tasks, actions)
        near = self._nearest(which, keys.detach().cpu().numpy(), use=True)
        stored_keys, stored_values = (
            torch.from_numpy(part).to(self.device).requires_grad_(self.settings.learn_keys)
            for part in (near.keys, near.values)
        )
        mask = None if near.mask is None else near.mask.to(self.device)
        q = kernel_mean(keys, stored_keys, stored_values, self.settings.kernel_delta, mask)
        loss = (q - torch.from_numpy(returns.astype(np.float32)).to(self.device)).square().mean()
        self.network.zero_grad(set_to_none=True)
        loss.backward()
        for parameter, squares in zip(self._parameters, self._squares, strict=True):
            if parameter.grad is not None:
                rmsprop(parameter, parameter.grad, squares, learning_rate)
        if stored_keys.grad is not None and stored_values.grad is not None:
            self._learn_entries(which, near, stored_keys.grad.cpu(), stored_values.grad.cpu(), learning_rate)
        return float(loss.detach())

    def _learn_entries(
        self, which: np.ndarray, near: Near, of_keys: Tensor, of_values: Tensor, learning_rate: float
    ) -> None:
        """RMSprop on the entries near, by the gradients (B, k, d_key) and (B, k)."""
        real, capacity = near.rows >= 0, self.settings.capacity
        entries, places = np.unique((which[:, None] * capacity + near.rows)[real], return_inverse=True)
        place = torch.from_numpy(places)
        groups = [(memory, entries[i] % capacity, i) for memory, i in self._by_memory(entries // capacity)]
        moved = []
        for name, gradient in (("key", of_keys), ("value", of_values)):
            total = torch.zeros(len(entries), *gradient.shape[2:]).index_add_(
                0, place, gradient[torch.from_numpy(real)]
            )
            stored, squares = (
                torch.from_numpy(np.concatenate([getattr(memory, part)[rows] for memory, rows, _ in groups]))
                for part in (f"{name}s", f"{name}_squares")
            )
            rmsprop(stored, total, squares, learning_rate)
            for memory, rows, i in groups:
                getattr(memory, f"{name}_squares")[rows] = squares.numpy()[i]
            moved.append(stored.numpy())
        for memory, rows, i in groups:
            memory.move(rows, moved[0][i], moved[1][i])

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"network": self.network.state_dict(), "squares": list(self._squares)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.network.load_state_dict(state["network"])
        for mine, saved in zip(self._squares, state["squares"], strict=True):
            mine.copy_(saved)

    def final_state_dict(self) -> dict[str, Any]:
        return super().final_state_dict() | {"network": self.network.state_dict()}

    def parameter_counts(self) -> dict[str, int]:
        parts = self.network.named_children()
        return {name: sum(p.numel() for p in part.parameters()) for name, part in parts}
