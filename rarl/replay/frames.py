"""Frames of episodes, each stored once, in compressed blocks that are freed when nobody holds them."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

from rarl.errors import RarlError


class FrameStore:
    """Blocks of consecutive frames of one episode.

    A block is filled frame by frame, then sealed: trimmed and, if asked for, compressed, as its first frame and what
    changes from each to the next (exclusive or; of screens this saves up to half beyond zlib alone, at no cost). Every
    block counts its holders; it is freed with the last of them. Memory is taken as needed, so what a store occupies
    depends on how well frames compress: see `nbytes`.

    Args:
      shape: of a frame, uint8.
      block: frames in a block, at least 1.
      compression: zlib's level, 1 (fast) to 9; 0: none.
    """

    def __init__(self, shape: Sequence[int], block: int, compression: int = 1):
        if block < 1:
            raise RarlError(f"block={block}: must be at least 1")
        if not 0 <= compression <= 9:
            raise RarlError(f"compression={compression}: must be between 0 and 9")
        self.shape, self.block, self.compression = tuple(shape), block, compression
        self._frame_bytes = int(np.prod(self.shape))
        self._next_id = 0
        self._open: dict[int, np.ndarray] = {}
        self._sealed: dict[int, np.ndarray | bytes] = {}  # an array without compression
        self._lengths: dict[int, int] = {}  # of all
        self._holders: dict[int, int] = {}

    def __len__(self) -> int:
        """Number of blocks."""
        return len(self._lengths)

    def _content(self, block: int) -> np.ndarray | bytes:
        return self._open[block] if block in self._open else self._sealed[block]

    @property
    def nbytes(self) -> int:
        """Bytes of all blocks, open ones at their full size."""
        return sum(c.nbytes if isinstance(c, np.ndarray) else len(c) for c in map(self._content, self._lengths))

    def open(self) -> int:
        """A new, empty block with one holder; its id."""
        block, self._next_id = self._next_id, self._next_id + 1
        self._open[block] = np.empty((self.block, *self.shape), dtype=np.uint8)
        self._lengths[block] = 0
        self._holders[block] = 1
        return block

    def append(self, block: int, frame: UInt8[np.ndarray, "*frame"]) -> bool:
        """Add a frame to an open block; a full one is sealed. Whether it is still open."""
        length = self._lengths[block]
        self._open[block][length] = frame
        self._lengths[block] = length + 1
        if length + 1 == self.block:
            self.seal(block)
            return False
        return True

    def seal(self, block: int) -> None:
        """No more frames will come. Sealing twice does nothing."""
        if block not in self._open:
            return
        frames = self._open.pop(block)[: self._lengths[block]]
        if self.compression:
            changes = frames.copy()
            changes[1:] ^= frames[:-1]
            self._sealed[block] = zlib.compress(changes.data, self.compression)
        else:
            self._sealed[block] = frames if len(frames) == self.block else frames.copy()

    def hold(self, blocks: Iterable[int]) -> None:
        """One more holder each."""
        for block in blocks:
            self._holders[block] += 1

    def release(self, blocks: Iterable[int]) -> None:
        """One holder fewer each; blocks without any are freed."""
        for block in blocks:
            self._holders[block] -= 1
            if not self._holders[block]:
                del self._lengths[block], self._holders[block]
                self._open.pop(block, None)
                self._sealed.pop(block, None)

    def read(self, blocks: Sequence[int], first: int, out: UInt8[np.ndarray, "n ..."]) -> None:
        """Fill `out` with consecutive frames.

        Args:
          blocks: consecutive blocks of an episode; all but the last are full.
          first: position of the first frame to read, counted from the start of the first block.
          out: contiguous; the blocks must hold n frames from `first` on.
        """
        done = 0
        for block in blocks:
            n = min(self.block - first, len(out) - done)
            if n <= 0:
                break
            content, part = self._content(block), out[done : done + n]
            assert self._lengths[block] >= first + n
            if isinstance(content, bytes):
                raw = zlib.decompressobj().decompress(content, (first + n) * self._frame_bytes)
                changes = np.frombuffer(raw, dtype=np.uint8).reshape(-1, *self.shape)
                np.bitwise_xor.reduce(changes[: first + 1], axis=0, out=part[0])
                for t in range(1, n):
                    np.bitwise_xor(changes[first + t], part[t - 1], out=part[t])
            else:
                part[:] = content[first : first + n]
            done, first = done + n, 0
        assert done == len(out)

    # --- state --------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything: `nbytes` (open blocks only as far as they are filled) and 33 bytes a block.

        The frames are one tensor, which checkpoints take as it is, where they copy arrays.
        """
        ids = list(self._lengths)
        parts = [np.zeros(0, dtype=np.uint8)]
        for block in ids:
            content = self._content(block)
            if isinstance(content, bytes):
                parts.append(np.frombuffer(content, dtype=np.uint8))
            else:
                parts.append(content[: self._lengths[block]].reshape(-1))
        return {
            "next_id": self._next_id,
            "ids": np.array(ids, dtype=np.int64),
            "lengths": np.array([self._lengths[block] for block in ids], dtype=np.int64),
            "holders": np.array([self._holders[block] for block in ids], dtype=np.int64),
            "open": np.array([block in self._open for block in ids], dtype=bool),
            "sizes": np.array([len(part) for part in parts[1:]], dtype=np.int64),
            "data": torch.from_numpy(np.concatenate(parts)),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """What `state_dict` of a store with the same arguments gave."""
        ids, data = state["ids"].tolist(), state["data"].numpy()
        ends = np.cumsum(state["sizes"])
        self._next_id = state["next_id"]
        self._lengths = dict(zip(ids, state["lengths"].tolist(), strict=True))
        self._holders = dict(zip(ids, state["holders"].tolist(), strict=True))
        self._open, self._sealed = {}, {}
        columns = (state["open"].tolist(), ends.tolist(), state["sizes"].tolist())
        for block, is_open, end, size in zip(ids, *columns, strict=True):
            part = data[end - size : end]
            if is_open:
                frames = self._open[block] = np.empty((self.block, *self.shape), dtype=np.uint8)
                frames[: self._lengths[block]] = part.reshape(-1, *self.shape)
            elif self.compression:
                self._sealed[block] = part.tobytes()
            else:
                self._sealed[block] = part.reshape(-1, *self.shape).copy()
