"""A slow and literal player of one Atari game, to hold the vectorised one against."""

from __future__ import annotations

import functools
from fractions import Fraction

import ale_py
import numpy as np
from ale_py import roms

ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)


@functools.cache
def overlaps(size, cells=84):
    """(cells, size): how much of each pixel lies in each cell, in fractions of the cell, as whole multiples of 1/size.

    Exact: a cell is size / cells pixels long.
    """
    weights = np.zeros((cells, size), dtype=np.int64)
    for cell in range(cells):
        start, end = Fraction(cell * size, cells), Fraction((cell + 1) * size, cells)
        for pixel in range(size):
            part = min(end, pixel + 1) - max(start, pixel)
            if part > 0:
                weights[cell, pixel] = part * cells
    assert (weights.sum(1) == size).all()
    return weights.astype(np.float64)


def shrink(picture):
    """(height, width) uint8 -> (84, 84) float64, the exact mean over each cell."""
    height, width = picture.shape
    total = overlaps(height) @ picture.astype(np.float64) @ overlaps(width).T  # of whole numbers: exact
    return total / (height * width)


class PlainAtari:
    """One game from its start, frame by frame: no seeds, no stickiness."""

    def __init__(self, game, full_actions=True, noops=0, frame_skip=4):
        self.ale = ale_py.ALEInterface()
        self.ale.setFloat("repeat_action_probability", 0.0)
        self.ale.loadROM(roms.get_rom_path(game))
        self.ale.reset_game()
        self.actions = self.ale.getLegalActionSet() if full_actions else self.ale.getMinimalActionSet()
        self.frame_skip = frame_skip
        for _ in range(noops):
            self.ale.act(0)

    def look(self):
        return self.ale.getScreenGrayscale()

    def step(self, action):
        """The mean over cells of the maximum of the last two frames; the reward; whether the game is over."""
        reward, seen = 0, []
        for _ in range(self.frame_skip):
            reward += self.ale.act(self.actions[action])
            if self.ale.game_over():
                return None, reward, True
            seen.append(self.look())
        return shrink(np.maximum(*seen[-2:])), reward, False


def is_rounded(observation, exact):
    """Whether each grey value is its cell's mean, rounded; halves may go either way."""
    return np.abs(observation - exact).max() <= 0.5 + 1e-3
