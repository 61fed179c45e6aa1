"""f_enc on Gridroboman; see `rarl.agents.build.encoder_of`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rarl.envs.gridroboman.tasks import BOARD
from rarl.envs.gridroboman.vector import N_OBJECTS, OBSERVATION_SIZE

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

    matrix: Tensor
    bias: Tensor

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
