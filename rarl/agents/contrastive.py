"""A loss that keeps what is retrieved of one task apart from what is retrieved of others (ours, not the paper's).

It needs no names of tasks: only that the trajectories of a retrieval batch are of one task, whichever it is.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from rarl.nn.retrieval import Mode, Summaries
from rarl.nn.value_network import ValueNetwork


def info_nce(one: Float[Tensor, "G d"], other: Float[Tensor, "G d"], temperature: float) -> Float[Tensor, ""]:
    """Cross-entropy of finding each row's partner among all rows of the other, by cosine (van den Oord et al. 2018).

    Mean of both directions. log G where nothing can be told, 0 at best.
    """
    logits = F.normalize(one, dim=-1) @ F.normalize(other, dim=-1).T / temperature
    own = torch.arange(len(logits), device=logits.device)
    return 0.5 * (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own))


def contrastive_loss(
    network: ValueNetwork,
    s: Float[Tensor, "G B d_s"],
    retrieved: Summaries,
    temperature: float,
    context: Shaped[Tensor, "G B 1 ..."] | None = None,
    exclude: Bool[Tensor, "G B n_traj"] | None = None,
) -> Float[Tensor, ""]:
    """`info_nce` of z, read from each half of the trajectories of a group's retrieval batch by the same states.

    Args:
      network: whose retrieval process; its running statistics stay as they are, and nothing is drawn.
      s: states that ask, of each group; z is its mean over them.
      retrieved: retrieval batches, one for each of at least two groups.
      temperature: of the cosines.
      context: what the states are told, for queries that are told it too.
      exclude: trajectories that a state must not read, those of its own episode; None: none.
    """
    odd = torch.arange(retrieved.n_traj, device=s.device) % 2 == 1
    of_halves = []
    for half in (odd, ~odd):
        excluded = half.expand(*s.shape[:2], -1)
        readable = retrieved.readable(excluded if exclude is None else excluded | exclude)
        step = network.ask(s[:, :, None], context, retrieved, mode=Mode.TARGET, readable=readable)
        of_halves.append(step.z.mean((1, 2)).flatten(1))
    one, other = of_halves
    return info_nce(one, other, temperature)
