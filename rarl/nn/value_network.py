"""Q-networks: encoder, retrieval (or what stands in its place), fusion, head; one class for all agents."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rarl.nn.encoders import ENCODERS
from rarl.nn.fusion import FUSIONS
from rarl.nn.retrieval import RetrievalProcess, RetrievalStep, SlotReadout, Summaries


class QHead(nn.Module):
    """Q(s~, z, a): one hidden layer, on which the head attends over z again.

    Args:
      d_s: width of s~ and of the hidden layer.
      n_actions: number of actions.
      d_m, d_e: widths of z and of the attention; d_m = 0 for an agent without z.
    """

    def __init__(self, d_s: int, n_actions: int, d_m: int = 0, d_e: int = 0):
        super().__init__()
        self.hidden = nn.Linear(d_s, d_s)
        self.readout = SlotReadout(d_s, d_m, d_e) if d_m else None
        self.value = nn.Linear(d_m, d_s, bias=False) if d_m else None
        self.q = nn.Linear(d_s, n_actions)

    def forward(self, s: Tensor, z: Tensor | None) -> Tensor:
        """s (..., d_s), z (..., n_f, d_m) or None -> Q values (..., n_actions)."""
        hidden = self.hidden(torch.relu(s))
        if self.readout is not None:
            hidden = hidden + self.value(self.readout(hidden, z))
        return self.q(torch.relu(hidden))


class ValueNetwork(nn.Module):
    """Encoder, then steps 1 to 6 where the agent retrieves, then the head.

    Args:
      encoder: name in `ENCODERS`.
      d_s: width of the agent's state.
      n_actions: number of actions.
      n_tasks: number of tasks.
      task_observed: the encoder sees the task id.
      retrieval: the retrieval process, or None for the base agent.
      d_m, d_e: widths of z and of attention.
      fusion: name in `FUSIONS`.
      oracle: z is a learned embedding of the task in place of what retrieval reads (a control).
    """

    def __init__(
        self,
        encoder: str,
        d_s: int,
        n_actions: int,
        n_tasks: int,
        task_observed: bool,
        retrieval: RetrievalProcess | None = None,
        d_m: int = 0,
        d_e: int = 0,
        fusion: str = "film",
        oracle: bool = False,
    ):
        super().__init__()
        uses_z = retrieval is not None or oracle
        self.encoder = ENCODERS[encoder](d_s, n_tasks if task_observed else 0)
        self.retrieval = retrieval
        self.oracle = nn.Embedding(n_tasks, d_m) if oracle else None
        self.readout = SlotReadout(d_s, d_m, d_e) if uses_z else None
        self.fusion = FUSIONS[fusion](d_s, d_m) if uses_z else None
        self.head = QHead(d_s, n_actions, d_m if uses_z else 0, d_e)

    def forward(
        self, x: Tensor, task: Tensor, retrieved: Summaries | None = None, *, sample: bool = False
    ) -> tuple[Tensor, RetrievalStep | None]:
        """x (G, B, ...), task (G, B) int64 -> Q values (G, B, n_actions), the retrieval step.

        Slots start afresh at every state: an agent without recurrence learns from states out of their order.
        """
        s = self.encoder(x, task)
        step, z = None, None
        if self.retrieval is not None:
            step = self.retrieval(s, self.retrieval.initial_slots(sample), retrieved, sample=sample, carry=False)
            z = step.z
        elif self.oracle is not None:
            z = self.oracle(task)[..., None, :]
        if z is not None:
            s = self.fusion(s, self.readout(s, z))
        return self.head(s, z), step
