"""Tokens of observations, from a small VQ-VAE (van den Oord et al., 2017): one code per observation.

They are what is predicted of masked steps (`rarl.nn.masking`). The paper says no more than that its tokens are those of
a VQ-VAE; everything else here is ours. Encoder and decoder have one hidden layer each: with a single code of a few
dozen, the codebook limits what is kept of an observation, and not they.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rarl.envs.atari.observation import SCREEN, newest_frame
from rarl.envs.babyai.view import CELLS
from rarl.envs.gridroboman.tasks import BOARD
from rarl.envs.gridroboman.vector import N_OBJECTS, OBSERVATION_SIZE
from rarl.nn.retrieval import Mode, Standardise

SHRINK = 4  # of Atari's screen, in width and height: 84 x 84 to 21 x 21


class Reading(Protocol):
    """How an environment's observations are read as numbers, and what it means to reconstruct them.

    Attributes:
      size: how many numbers.
    """

    size: int

    def __call__(self, x: Tensor) -> Tensor:
        """Observations (n, ...) -> (n, size) float32."""
        ...

    def compare(self, decoded: Tensor, read: Tensor) -> tuple[Tensor, Tensor]:
        """What the decoder said, and what is so, (n, size) each -> loss, to learn from, and error, to look at.

        Both are scalars, the error 0 where nothing is wrong.
        """
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

    def __call__(self, x: Tensor) -> Tensor:
        parts = zip(self.split(x), self.kinds, strict=True)
        return torch.cat([F.one_hot(numbers, values).flatten(1) for numbers, (_, values) in parts], 1).float()

    def compare(self, decoded: Tensor, read: Tensor) -> tuple[Tensor, Tensor]:
        total = len(read) * sum(numbers for numbers, _ in self.kinds)
        loss = wrong = 0
        parts = zip(decoded.split(self.widths, 1), read.split(self.widths, 1), self.kinds, strict=True)
        for logits, truth, (_, values) in parts:
            logits, truth = logits.reshape(-1, values), truth.reshape(-1, values).argmax(-1)
            loss = loss + F.cross_entropy(logits, truth, reduction="sum")
            wrong = wrong + (logits.argmax(-1) != truth).sum()
        return loss / total, wrong / total


class Screen:
    """The newest frame of a packed x, shrunk to 21 x 21 pixels, less the mean frame, in standard deviations.

    Mean and standard deviation, one for all pixels, are those of the frames that are read together. For most of a
    screen is always the same, and games differ in the rest by orders of magnitude: without this, hundreds of steps
    would go into learning what says nothing. Loss and error: mean squared error, which is the share of the frames'
    variance that is not explained.
    """

    size = (SCREEN // SHRINK) ** 2

    def __call__(self, x: Tensor) -> Tensor:
        pixels = F.avg_pool2d(newest_frame(x).to(torch.float32)[:, None] / 255, SHRINK).flatten(1)
        pixels = pixels - pixels.mean(0)
        return pixels * torch.rsqrt(pixels.square().mean() + 1e-6)

    def compare(self, decoded: Tensor, read: Tensor) -> tuple[Tensor, Tensor]:
        error = (decoded - read).square().mean()
        return error, error


def _board(x: Tensor) -> tuple[Tensor, Tensor]:
    """Gridroboman: the coordinates (n, 8), and the objects' statuses (n, 3)."""
    statuses = torch.zeros(OBSERVATION_SIZE, dtype=torch.bool)
    statuses[4::3] = True
    return x[:, ~statuses].long(), x[:, statuses].long() + 1


def _view(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """BabyAI: type, colour and state of each cell (see `rarl.envs.babyai.view`), (n, 49) each."""
    codes = x[:, :CELLS].long()
    return codes // 18, codes % 18 // 3, codes % 3


READINGS: dict[str, Reading] = {
    "gridroboman": Symbols([(OBSERVATION_SIZE - N_OBJECTS, BOARD), (N_OBJECTS, 3)], _board),
    "babyai": Symbols([(CELLS, 11), (CELLS, 6), (CELLS, 3)], _view),
    "atari": Screen(),
}


class Coded(NamedTuple):
    """What a VQ-VAE makes of n observations.

    tokens: (n,) int64. loss: scalar, of reconstruction and commitment. error: scalar, of the reconstruction, see
    `READINGS`. perplexity: scalar, exp of the tokens' entropy: how many codes are in use, as it were.
    """

    tokens: Tensor
    loss: Tensor
    error: Tensor
    perplexity: Tensor


class VQVAE(nn.Module):
    """Encoder, quantiser and decoder of one environment's observations.

    Against collapse onto a few codes: what the encoder gives is brought to mean 0 and variance 1, the codes begin as
    means of clusters of the first batch, and those that fall out of use become observations of the batch (Łańcucki et
    al., 2020). The codes are moving averages. All random numbers are from torch's generator, and all that changes is in
    the state dict.

    Args:
      environment: name in `READINGS`.
      tokens: number of codes.
      d_token: width of a code.
      width: of the hidden layers.
    """

    COMMITMENT = 0.25  # van den Oord et al.'s
    DECAY = 0.9  # of the moving averages, per step
    UNUSED = 0.1  # observations per step, on average, below which a code is given up

    def __init__(self, environment: str, tokens: int, d_token: int, width: int = 64):
        super().__init__()
        # Imported here, for it takes a second or two and most agents have no use for it.
        from vector_quantize_pytorch import VectorQuantize

        self.read = READINGS[environment]
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

    def forward(self, x: Tensor) -> Coded:
        """Observations (n, ...), as they are stored. With gradients enabled, codes and statistics move."""
        read, learns = self.read(x), torch.is_grad_enabled()
        code = self.standardise(self.encoder(read), Mode.LEARN if learns else Mode.ACT)
        quantised, tokens, commitment = self.quantiser(code[None], freeze_codebook=not learns)
        loss, error = self.read.compare(self.decoder(quantised[0]), read)
        tokens = tokens[0]
        with torch.no_grad():
            share = torch.bincount(tokens, minlength=self.quantiser.codebook_size) / len(tokens)
            perplexity = torch.exp(torch.special.entr(share).sum())
        return Coded(tokens, loss + commitment, error.detach(), perplexity)
