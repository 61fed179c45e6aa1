"""f_enc: observations to the agent's internal state s (s_t = f_enc(x_t) in the paper).

Every encoder maps (..., observation) to s of shape (..., d_s), layer-normalised and linear: what uses s applies its own
non-linearity. A task id may be part of the observation; it enters the encoder's last pre-activation as an embedding.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rarl.config import AgentSettings
from rarl.envs.babyai.missions import VOCABULARY
from rarl.envs.babyai.view import CELLS, CODES, VIEW
from rarl.envs.gridroboman.tasks import BOARD
from rarl.envs.gridroboman.vector import N_OBJECTS, OBSERVATION_SIZE
from rarl.nn.atari_encoders import ATARI_ENCODERS

_THINGS = 1 + N_OBJECTS  # the robot and the objects
_SPAN = 2 * BOARD - 1  # values that a coordinate difference takes


def relational_features() -> tuple[Tensor, Tensor, int]:
    """The integer map from a Gridroboman observation to the ids of its active one-hot features.

    Two groups, both of one-hot features: *joint* (the cell of each thing, the offset (dx, dy) of each pair of things,
    the three statuses together) and *separate* (each coordinate, each difference, each status). All ids are affine in
    the observation, so that ids = observation @ matrix + bias, exactly.

    Returns:
      matrix (11, n_active) float32, bias (n_active,) float32, number of features.
    """
    columns: list[tuple[dict[int, int], int, int]] = []  # coefficients by observation index, offset, number of values
    xs = [0] + [2 + 3 * i for i in range(N_OBJECTS)]
    ys = [x + 1 for x in xs]
    statuses = [4 + 3 * i for i in range(N_OBJECTS)]
    pairs = [(i, j) for i in range(_THINGS) for j in range(i + 1, _THINGS)]
    for x, y in zip(xs, ys, strict=True):
        columns += [({x: BOARD, y: 1}, 0, BOARD**2), ({x: 1}, 0, BOARD), ({y: 1}, 0, BOARD)]
    for i, j in pairs:
        dx, dy = {xs[i]: 1, xs[j]: -1}, {ys[i]: 1, ys[j]: -1}
        joint = {xs[i]: _SPAN, xs[j]: -_SPAN, **dy}
        columns += [(joint, (BOARD - 1) * (_SPAN + 1), _SPAN**2), (dx, BOARD - 1, _SPAN), (dy, BOARD - 1, _SPAN)]
    columns += [({s: 3**k for k, s in enumerate(statuses)}, (3**N_OBJECTS - 1) // 2, 3**N_OBJECTS)]
    columns += [({s: 1}, 1, 3) for s in statuses]

    matrix, bias, total = torch.zeros(OBSERVATION_SIZE, len(columns)), torch.zeros(len(columns)), 0
    for c, (coefficients, offset, n_values) in enumerate(columns):
        for index, value in coefficients.items():
            matrix[index, c] = value
        bias[c] = total + offset
        total += n_values
    return matrix, bias, total


class _SumOfRows(torch.autograd.Function):
    """Sum of the rows of a table that `ids` name. The gradient is itself a sum of rows, by id: on a CPU three times
    faster than the library's own dense gradient."""

    @staticmethod
    def forward(ctx, table: Tensor, ids: Tensor) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.n_rows = table.shape[0]
        return F.embedding_bag(ids, table, mode="sum")

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        (ids,) = ctx.saved_tensors
        # Short integers sort three times faster.
        kind = torch.int16 if ctx.n_rows <= torch.iinfo(torch.int16).max else ids.dtype
        by_id, order = torch.sort(ids.flatten().to(kind), stable=True)
        starts = torch.searchsorted(by_id, torch.arange(ctx.n_rows, device=ids.device, dtype=kind))
        return F.embedding_bag(order // ids.shape[1], gradient.contiguous(), starts, mode="sum"), None


class RelationalEncoder(nn.Module):
    """One layer on one-hot features of cells, pairwise offsets and statuses: a sum of embeddings, then layer norm.

    Args:
      d_s: width of s.
      n_tasks: number of tasks that may be told; 0 if the task is hidden.
    """

    def __init__(self, d_s: int, n_tasks: int = 0):
        super().__init__()
        matrix, bias, n_features = relational_features()
        self.register_buffer("matrix", matrix, persistent=False)
        self.register_buffer("bias", bias, persistent=False)
        self.table = nn.Parameter(torch.randn(n_features, d_s) * matrix.shape[1] ** -0.5)
        self.task = nn.Embedding(n_tasks, d_s) if n_tasks else None
        self.norm = nn.LayerNorm(d_s)

    def forward(self, x: Tensor, task: Tensor | None = None) -> Tensor:
        """x (..., 11) of any number type, task (...) int64 or None -> s (..., d_s)."""
        ids = (x.to(self.matrix.dtype) @ self.matrix + self.bias).long()
        s = _SumOfRows.apply(self.table, ids.reshape(-1, ids.shape[-1])).reshape(*x.shape[:-1], -1)
        if self.task is not None:
            s = s + self.task(task)
        return self.norm(s)


class MLPEncoder(nn.Module):
    """The paper's Gridroboman encoder: an MLP of two layers on the 11 numbers (appendix A.4).

    Args:
      d_s: width of both layers and of s.
      n_tasks: number of tasks that may be told; 0 if the task is hidden.
    """

    def __init__(self, d_s: int, n_tasks: int = 0):
        super().__init__()
        self.first = nn.Linear(OBSERVATION_SIZE, d_s)
        self.second = nn.Linear(d_s, d_s)
        self.task = nn.Embedding(n_tasks, d_s) if n_tasks else None
        self.norm = nn.LayerNorm(d_s)

    def forward(self, x: Tensor, task: Tensor | None = None) -> Tensor:
        """x (..., 11) of any number type, task (...) int64 or None -> s (..., d_s)."""
        s = self.first(x.to(self.first.weight.dtype) / (BOARD - 1))
        if self.task is not None:
            s = s + self.task(task)
        return self.norm(self.second(torch.relu(s)))


class BabyAIEncoder(nn.Module):
    """View and mission, the usual design of the field: embedded cells, convolutions modulated by the mission (FiLM).

    The mission is read by a GRU; its last state opens and closes channels of the view.

    Args:
      d_s: width of s.
      n_tasks: not used; the mission tells the task.
      channels: of the cells' embeddings and of the convolutions.
      blocks: 3x3 convolutions, each followed by FiLM; 0: FiLM on the embeddings themselves.
      d_mission: width of the mission's GRU.
    """

    def __init__(self, d_s: int, n_tasks: int = 0, *, channels: int, blocks: int, d_mission: int):
        super().__init__()
        self.cells = nn.Parameter(torch.randn(CODES, channels) * 0.5)
        self.words = nn.Embedding(len(VOCABULARY), d_mission, padding_idx=0)
        self.mission = nn.GRU(d_mission, d_mission, batch_first=True)
        self.convolutions = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(blocks))
        self.film = nn.Linear(d_mission, 2 * channels * max(blocks, 1))
        self.out = nn.Linear(channels * CELLS, d_s)
        self.norm = nn.LayerNorm(d_s)

    def read_mission(self, mission: Tensor) -> Tensor:
        """mission (..., words) int64, 0 where it has ended -> (..., d_mission): the GRU's state after its last word."""
        flat = mission.reshape(-1, mission.shape[-1])
        length = (flat > 0).sum(-1).clamp(min=1)
        states, _ = self.mission(self.words(flat[:, : int(length.max())]))
        last = states.gather(1, (length - 1)[:, None, None].expand(-1, 1, states.shape[-1]))
        return last.view(*mission.shape[:-1], -1)

    def forward(self, x: Tensor, mission: Tensor) -> Tensor:
        """x (..., T, 50) uint8, mission (..., 1, words) int64 -> s (..., T, d_s).

        The last number of x, the compass direction, is not looked at: it is not part of the usual observation.
        """
        codes = x[..., :CELLS].long()
        film = self.film(self.read_mission(mission)).unsqueeze(-2)  # (..., 1, 1, 2 * channels * blocks)
        scales, shifts = film.chunk(2, dim=-1)
        channels = self.cells.shape[1]
        v = F.embedding(codes, self.cells)  # (..., T, cells, channels)
        for block, (scale, shift) in enumerate(
            zip(scales.split(channels, -1), shifts.split(channels, -1), strict=True)
        ):
            if self.convolutions:
                image = v.reshape(-1, VIEW, VIEW, channels).permute(0, 3, 1, 2)
                v = self.convolutions[block](image).permute(0, 2, 3, 1).reshape(*codes.shape, channels)
            v = torch.relu(torch.addcmul(v + shift, v, scale))
        return self.norm(self.out(v.flatten(-2)))


ENCODERS = {"relational": RelationalEncoder, "mlp": MLPEncoder, "babyai": BabyAIEncoder, **ATARI_ENCODERS}


def encoder_options(agent: AgentSettings, n_actions: int) -> dict[str, Any]:
    """The arguments, beside d_s and n_tasks, of an agent's encoder."""
    if agent.encoder == "babyai":
        return {"channels": agent.channels, "blocks": agent.blocks, "d_mission": agent.d_mission}
    if agent.encoder in ATARI_ENCODERS:
        return {"n_actions": n_actions, "stack": agent.stack, "recompute": agent.recompute}
    return {}
