"""Packed observations and the stacks that actors keep."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rarl.envs.atari.encoders import unpack
from rarl.envs.atari.observation import Observer, pack, packed_size


def random_steps(rng, *shape, stack):
    frames = rng.integers(256, size=(*shape, stack, 84, 84)).astype(np.uint8)
    return frames, rng.integers(18, size=shape), rng.normal(0, 1000, shape).astype(np.float32)


@pytest.mark.parametrize("stack", [1, 2, 4])
def test_what_is_packed_comes_out_again(stack):
    frames, actions, rewards = random_steps(np.random.default_rng(0), 2, 3, stack=stack)
    rewards[0] = [0, -21, 1e6]
    x = pack(frames, actions, rewards)
    assert (x.shape, x.dtype) == ((2, 3, packed_size(stack)), np.uint8)
    assert packed_size(stack) == stack * 7056 + 5
    out = unpack(torch.from_numpy(x).view(6, -1), stack)
    for theirs, ours in zip(out, (frames, actions, rewards), strict=True):
        np.testing.assert_array_equal(theirs.numpy(), ours.reshape(theirs.shape))


@pytest.mark.parametrize("n", [1, 2])
def test_single_and_odd_rows_of_a_larger_tensor(n):
    """Rewards start at any byte of memory."""
    frames, actions, rewards = random_steps(np.random.default_rng(1), 5, stack=1)
    x = torch.from_numpy(pack(frames, actions, rewards))
    assert unpack(x[3 : 3 + n], 1)[2].tolist() == rewards[3 : 3 + n].tolist()
    assert unpack(x.flatten()[packed_size(1) :].view(4, -1)[:n], 1)[2].tolist() == rewards[1 : 1 + n].tolist()


def test_observers_stack_frames_of_one_episode_only():
    rng = np.random.default_rng(2)
    frames, actions, rewards = random_steps(rng, 2, stack=6)
    observer = Observer(2, stack=3)
    observer.begin(frames[:, 0])
    black = np.zeros((2, 2, 84, 84), dtype=np.uint8)
    none = np.zeros(2)
    np.testing.assert_array_equal(observer.x, pack(np.concatenate([black, frames[:, :1]], 1), none, none))
    kept = observer.x
    observer.step(actions, rewards, frames[:, 1])
    np.testing.assert_array_equal(observer.x, pack(np.concatenate([black[:, :1], frames[:, :2]], 1), actions, rewards))
    assert (kept != observer.x).any()
    observer.step(actions, rewards, frames[:, 2])
    observer.step(actions + 1, rewards / 2, frames[:, 3])
    np.testing.assert_array_equal(observer.x, pack(frames[:, 1:4], actions + 1, rewards / 2))
    # One of them begins anew; the other one goes on.
    before = observer.x
    observer.begin(frames[:, 4], np.array([1]))
    np.testing.assert_array_equal(observer.x[0], before[0])
    np.testing.assert_array_equal(observer.x[1], pack(np.concatenate([black[1], frames[1, 4:5]])[None], 0, 0)[0])
    # Saved and restored.
    other = Observer(2, stack=3)
    other.load_state_dict(observer.state_dict())
    for each in (observer, other):
        each.step(actions, rewards, frames[:, 5])
    np.testing.assert_array_equal(other.x, observer.x)
