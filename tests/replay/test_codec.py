"""How observations are kept in a replay and made whole again."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rarl.envs.atari.observation import EXTRA_BYTES, FRAME_BYTES, Observer
from rarl.envs.atari.packed import FrameCodec
from rarl.envs.spec import make_vector
from rarl.replay.codec import Bytes, codec_of
from tests import tiny_atari, tiny_project

DTYPES = ("bool", "u1", "i1", "<u2", ">i2", "i4", "i8", "f2", "f4", "f8")


@given(st.data())
def test_bytes_come_back_as_the_observations_that_they_were(data):
    """Bit by bit, NaN too; of a part of an array, of any number of observations, in any leading axes."""
    dtype = np.dtype(data.draw(st.sampled_from(DTYPES)))
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=3, max_side=4))
    n = data.draw(st.integers(0, 6))
    raw = data.draw(hnp.arrays(np.uint8, (2 * n, *shape, dtype.itemsize)))
    x = (raw & 1).astype(bool)[..., 0] if dtype.kind == "b" else raw.view(dtype).reshape(2 * n, *shape)
    x = x[::2]  # not contiguous
    codec = Bytes(shape, dtype)
    frames = codec.newest(x)
    assert frames.dtype == np.uint8
    assert frames.shape == (n, *codec.frame_shape)
    assert codec.frame_shape == (x[:1].nbytes or dtype.itemsize * int(np.prod(shape)),)
    nothing = np.zeros(n)
    back = codec.restore(frames[:, None], nothing, nothing)
    assert back.dtype == dtype
    assert back.shape == x.shape
    assert back.tobytes() == x.tobytes()
    if n and n % 2 == 0:
        apart = codec.restore(frames.reshape(2, -1, 1, *codec.frame_shape), nothing, nothing)
        assert apart.shape == (2, n // 2, *shape)
        assert apart.tobytes() == x.tobytes()
        one = codec.restore(frames[:1], nothing, nothing)
        assert one.shape == shape
        assert one.tobytes() == x[:1].tobytes()


def test_what_is_kept_alone_is_a_copy():
    x = np.arange(12, dtype=np.int16).reshape(4, 3)
    alone = Bytes((3,), x.dtype).alone(x)
    assert (alone == x).all()
    alone[:] = 0
    assert (x[1:] > 0).all()


@pytest.mark.parametrize("stack", [1, 3])
def test_frames_with_what_was_done_make_the_observations(stack):
    """x from the newest frames of the episode so far, last actions and rewards."""
    rng, codec = np.random.default_rng(0), FrameCodec(stack)
    observer, frames = Observer(2, stack), rng.integers(1, 256, size=(6, 2, 84, 84), dtype=np.uint8)
    observer.begin(frames[0])
    kept = [codec.newest(observer.x)]
    actions, rewards = rng.integers(18, size=(6, 2)), rng.normal(size=(6, 2)).astype(np.float32)
    actions[0], rewards[0] = 0, 0
    for t in range(1, 6):
        observer.step(actions[t], rewards[t], frames[t])
        kept.append(codec.newest(observer.x))
        assert (kept[t] == frames[t]).all()
        black = [np.zeros_like(kept[0])] * (stack - 1)
        newest = np.stack([*black, *kept][-stack:], 1)
        assert (codec.restore(newest, actions[t], rewards[t]) == observer.x).all()
        alone = codec.alone(observer.x)
        assert (alone[:, -EXTRA_BYTES:] == 0).all()
        assert (alone[:, : stack * FRAME_BYTES] == observer.x[:, :-EXTRA_BYTES]).all()
    assert observer.x[:, -EXTRA_BYTES:].any()


def test_which_codec_an_environment_has(tiny_root, tiny_atari_root):
    atari = tiny_atari.run_of(tiny_atari_root, "dqn").settings
    settings = tiny_project.run_of(tiny_root, "nec").settings
    envs = make_vector(settings, ["touch red"] * 2)
    games = codec_of(atari, envs)
    assert (type(games), games.stack, games.frame_shape) == (FrameCodec, 4, (84, 84))
    boards = codec_of(settings, envs)
    assert (type(boards), boards.stack, boards.frame_shape) == (Bytes, 1, (11,))
    assert not envs.active.any()  # nobody plays yet
    x = envs.reset([1, 2])
    nothing = np.zeros(2)
    assert (boards.restore(boards.newest(x)[:, None], nothing, nothing) == x).all()
