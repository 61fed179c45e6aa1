"""f_enc on Atari: frames through a convolutional trunk, then the last action and reward, then layer norm.

x comes packed (`rarl.envs.atari.observation`), as uint8, so that what was retrieved is encoded by the same call. The
last layer is linear and normalised, as in all encoders (`rarl.agents.build.encoder_of`): the ReLU of the paper's last
layer is applied by what uses s.
"""

from __future__ import annotations

from functools import partial
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from rarl.envs.atari.observation import EXTRA_BYTES, SCREEN

_AT_ONCE = 1024  # frames encoded together where no gradient is needed, which bounds memory


def unpack(x: Tensor, stack: int) -> tuple[Tensor, Tensor, Tensor]:
    """x (n, bytes) uint8 -> frames (n, stack, 84, 84) uint8, last actions (n,) int64, last rewards (n,) float32."""
    frames = x[:, :-EXTRA_BYTES].unflatten(1, (stack, SCREEN, SCREEN))
    # A view as float32 needs memory that starts at a multiple of 4 bytes.
    rewards = x[:, -EXTRA_BYTES + 1 :].clone(memory_format=torch.contiguous_format).view(torch.float32)
    return frames, x[:, -EXTRA_BYTES].long(), rewards[:, 0]


class Bottleneck(nn.Module):
    """x + a 1x1, a 3x3 and a 1x1 convolution, each of what ReLU leaves.

    Args:
      channels, inner: of x, and of the 3x3 convolution.
      scale: of the last convolution's first weights, so that a chain of blocks starts with the variance of one.
    """

    def __init__(self, channels: int, inner: int, scale: float):
        super().__init__()
        self.narrow = nn.Conv2d(channels, inner, 1)
        self.look = nn.Conv2d(inner, inner, 3, padding=1)
        self.widen = nn.Conv2d(inner, channels, 1)
        with torch.no_grad():
            self.widen.weight.mul_(scale)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.widen(torch.relu(self.look(torch.relu(self.narrow(torch.relu(x))))))


class Trunk(Protocol):
    """Class of a trunk: frames (n, stack, 84, 84) to so many features."""

    features: int

    def __call__(self, stack: int, /) -> nn.Module: ...


class ResNet47(nn.Sequential):
    """The paper's (section 3 of PAPER.md): 46 convolutions here, and the encoder's linear layer is the 47th.

    Four groups of a 3x3 convolution with stride 2, (2, 4, 6, 2) bottleneck blocks and group norm, 8 channels to a
    group: 4 + 3 * 14 = 46 convolutions. 84 x 84 shrinks to 42, 21, 11, 6.
    """

    features = 512 * 6 * 6

    def __init__(self, stack: int):
        layers: list[nn.Module] = []
        before = stack
        for channels, inner, blocks in ((64, 16, 2), (128, 32, 4), (256, 64, 6), (512, 128, 2)):
            layers.append(nn.Conv2d(before, channels, 3, stride=2, padding=1))
            layers += [Bottleneck(channels, inner, blocks**-0.5) for _ in range(blocks)]
            layers += [nn.GroupNorm(channels // 8, channels), nn.ReLU()]
            before = channels
        super().__init__(*layers)


class Nature(nn.Sequential):
    """DQN's (Mnih et al. 2015): three convolutions. 84 x 84 shrinks to 20, 9, 7."""

    features = 64 * 7 * 7

    def __init__(self, stack: int):
        super().__init__(
            nn.Conv2d(stack, 32, 8, stride=4),
            nn.ReLU(),
            nn.Conv2d(32, 64, 4, stride=2),
            nn.ReLU(),
            nn.Conv2d(64, 64, 3),
            nn.ReLU(),
        )


class _Residual(nn.Module):
    """x + two 3x3 convolutions, each of what ReLU leaves."""

    def __init__(self, channels: int):
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(torch.relu(self.first(torch.relu(x))))


class ImpalaSmall(nn.Sequential):
    """IMPALA's residual network (Espeholt et al. 2018): 15 convolutions. 84 x 84 shrinks to 42, 21, 11."""

    features = 32 * 11 * 11

    def __init__(self, stack: int):
        layers: list[nn.Module] = []
        before = stack
        for channels in (16, 32, 32):
            layers += [nn.Conv2d(before, channels, 3, padding=1), nn.MaxPool2d(3, stride=2, padding=1)]
            layers += [_Residual(channels), _Residual(channels)]
            before = channels
        super().__init__(*layers, nn.ReLU())


class Tiny(nn.Sequential):
    """For CPUs: the first two convolutions of DQN with 8 and 16 channels. 84 x 84 shrinks to 20, 9."""

    features = 16 * 9 * 9

    def __init__(self, stack: int):
        super().__init__(nn.Conv2d(stack, 8, 8, stride=4), nn.ReLU(), nn.Conv2d(8, 16, 4, stride=2), nn.ReLU())


class AtariEncoder(nn.Module):
    """A trunk on the frames, a linear layer on its features and on the last action and reward, layer norm.

    Args:
      d_s: width of s.
      n_tasks: not used; there is one game.
      trunk: class of the trunk.
      n_actions: number of actions, for the one-hot of the last one.
      stack: frames in an x.
      recompute: compute the trunk's activations again in the backward pass, so many frames at a time, instead of
        keeping them: a third more work in bounded memory. 0: keep them.

    Attributes:
      precision: of the trunk's convolutions; its features are of the weights' type again.
    """

    def __init__(
        self,
        d_s: int,
        n_tasks: int = 0,
        *,
        trunk: Trunk,
        n_actions: int,
        stack: int = 1,
        recompute: int = 0,
    ):
        super().__init__()
        self.n_actions, self.stack, self.recompute = n_actions, stack, recompute
        self.precision = torch.float32
        self.trunk = trunk(stack)
        self.out = nn.Linear(trunk.features, d_s)
        self.extra = nn.Linear(n_actions + 1, d_s, bias=False)
        self.norm = nn.LayerNorm(d_s)

    def forward(self, x: Tensor, told: Tensor | None = None) -> Tensor:
        """x (..., bytes) uint8, as `rarl.envs.atari.observation.pack` makes it -> s (..., d_s). `told` is not used."""
        frames, actions, rewards = unpack(x.reshape(-1, x.shape[-1]), self.stack)
        # Rewards are not clipped and differ by orders of magnitude between games.
        squashed = rewards.sign() * rewards.abs().log1p()
        one_hot = F.one_hot(actions, self.n_actions)
        extra = torch.cat([one_hot.to(squashed.dtype), squashed[:, None]], 1).to(self.extra.weight.dtype)
        s = self.out(self._features(frames)) + self.extra(extra)
        return self.norm(s).view(*x.shape[:-1], -1)

    def _features(self, frames: Tensor) -> Tensor:
        """frames (n, stack, 84, 84) uint8 -> (n, features)."""
        gradients = torch.is_grad_enabled()
        at_once = self.recompute if gradients else _AT_ONCE
        if not at_once or (not gradients and len(frames) <= at_once):
            return self._encode(frames, self.precision)
        parts = frames.split(at_once)
        if gradients:
            # The precision is an argument, since it may be another when the backward pass comes.
            parts = [checkpoint(self._encode, part, self.precision, use_reentrant=False) for part in parts]
        else:
            parts = [self._encode(part, self.precision) for part in parts]
        return torch.cat(parts)

    def _encode(self, frames: Tensor, precision: torch.dtype) -> Tensor:
        dtype = self.out.weight.dtype
        with torch.autocast(frames.device.type, torch.bfloat16, enabled=precision == torch.bfloat16):
            # Channels last: convolutions take three quarters of the time.
            pixels = frames.to(dtype, memory_format=torch.channels_last).div_(255)
            return self.trunk(pixels).to(dtype).flatten(1)


resnet47 = partial(AtariEncoder, trunk=ResNet47)
nature = partial(AtariEncoder, trunk=Nature)
impala_small = partial(AtariEncoder, trunk=ImpalaSmall)
tiny = partial(AtariEncoder, trunk=Tiny)
