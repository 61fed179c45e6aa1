"""Tokens of observations, from a small VQ-VAE (van den Oord et al., 2017): one code per observation.

They are what is predicted of masked steps (`rarl.nn.masking`). The paper says no more than that its tokens are those of
a VQ-VAE; everything else here is ours. Encoder and decoder have one hidden layer each: with a single code of a few
dozen, the codebook limits what is kept of an observation, and not they.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from rarl.nn.retrieval import Mode, Standardise


@runtime_checkable
class ObservationReader(Protocol):
    """How an environment's observations are read as numbers, and what it means to reconstruct them.

    Attributes:
      size: how many numbers.
    """

    size: int

    def __call__(self, x: Shaped[Tensor, "n ..."]) -> Float[Tensor, "n size"]:
        """Observations as numbers, float32."""
        ...

    def compare(
        self, decoded: Float[Tensor, "n size"], read: Float[Tensor, "n size"]
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Loss, to learn from, and error, to look at, 0 if all is right: of what the decoder said and what is so."""
        ...


class Symbols:
    """Whole numbers, one-hot. Loss: cross-entropy, mean over all numbers, in nats. Error: share that is wrong.

    Args:
      kinds: how many numbers there are of each kind, and how many values they can take.
      split: observations (n, ...) -> the numbers of each kind, (n, how many) int64, from 0.
    """

    def __init__(self, kinds: Sequence[tuple[int, int]], split: Callable[[Tensor], Sequence[Tensor]]):
        self.kinds, self.split = kinds, split
        self.widths = [numbers * values for numbers, values in kinds]
        self.size = sum(self.widths)

    def __call__(self, x: Shaped[Tensor, "n ..."]) -> Float[Tensor, "n size"]:
        parts = zip(self.split(x), self.kinds, strict=True)
        return torch.cat([F.one_hot(numbers, values).flatten(1) for numbers, (_, values) in parts], 1).float()

    def compare(
        self, decoded: Float[Tensor, "n size"], read: Float[Tensor, "n size"]
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        total = len(read) * sum(numbers for numbers, _ in self.kinds)
        loss, wrong = decoded.new_zeros(()), torch.zeros((), dtype=torch.int64, device=decoded.device)
        parts = zip(decoded.split(self.widths, 1), read.split(self.widths, 1), self.kinds, strict=True)
        for logits, truth, (_, values) in parts:
            logits, truth = logits.reshape(-1, values), truth.reshape(-1, values).argmax(-1)
            loss = loss + F.cross_entropy(logits, truth, reduction="sum")
            wrong = wrong + (logits.argmax(-1) != truth).sum()
        return loss / total, wrong / total


class Coded(NamedTuple):
    """What a VQ-VAE makes of n observations.

    loss: of reconstruction and commitment. error: of the reconstruction, see `ObservationReader.compare`. perplexity:
    exp of the tokens' entropy: how many codes are in use, as it were.
    """

    tokens: Int[Tensor, " n"]
    loss: Float[Tensor, ""]
    error: Float[Tensor, ""]
    perplexity: Float[Tensor, ""]


class VQVAE(nn.Module):
    """Encoder, quantiser and decoder of one environment's observations.

    Against collapse onto a few codes: what the encoder gives is brought to mean 0 and variance 1, the codes begin as
    means of clusters of the first batch, and those that fall out of use become observations of the batch (Łańcucki et
    al., 2020). The codes are moving averages. All random numbers are from torch's generator, and all that changes is in
    the state dict.

    Args:
      read: how its observations are read.
      tokens: number of codes.
      d_token: width of a code.
      width: of the hidden layers.
    """

    COMMITMENT = 0.25  # van den Oord et al.'s
    DECAY = 0.9  # of the moving averages, per step
    UNUSED = 0.1  # observations per step, on average, below which a code is given up

    def __init__(self, read: ObservationReader, tokens: int, d_token: int, width: int = 64):
        super().__init__()
        # Imported here, for it takes a second or two and most agents have no use for it.
        from vector_quantize_pytorch import VectorQuantize

        self.read = read
        self.encoder = nn.Sequential(nn.Linear(self.read.size, width), nn.ReLU(), nn.Linear(width, d_token))
        self.standardise = Standardise(d_token)
        self.quantiser = VectorQuantize(
            d_token,
            tokens,
            decay=self.DECAY,
            kmeans_init=True,
            threshold_ema_dead_code=self.UNUSED,
            commitment_weight=self.COMMITMENT,
            rotation_trick=False,
        )
        self.decoder = nn.Sequential(nn.Linear(d_token, width), nn.ReLU(), nn.Linear(width, self.read.size))

    __call__: Callable[..., Coded]

    def forward(self, x: Shaped[Tensor, "n ..."]) -> Coded:
        """Of observations as they are stored. With gradients enabled, codes and statistics move."""
        read, learns = self.read(x), torch.is_grad_enabled()
        code = self.standardise(self.encoder(read), Mode.LEARN if learns else Mode.ACT)
        quantised, tokens, commitment = self.quantiser(code[None], freeze_codebook=not learns)
        loss, error = self.read.compare(self.decoder(quantised[0]), read)
        tokens = tokens[0]
        with torch.no_grad():
            share = torch.bincount(tokens, minlength=self.quantiser.codebook_size) / len(tokens)
            perplexity = torch.exp(torch.special.entr(share).sum())
        return Coded(tokens, loss + commitment, error.detach(), perplexity)
