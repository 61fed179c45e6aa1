"""The single-file DQN: it runs, and retrieval is a few marked lines of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rarl.envs.spec import load

FILE = Path("examples/dqn_with_retrieval.py")


@pytest.mark.parametrize("retrieves", [False, True])
def test_it_runs(retrieves):
    network, measure = load(f"{FILE}:train")(retrieves, 0, 30)
    assert (network.retriever is not None) == retrieves
    assert 1 <= measure() <= 16
    assert np.isfinite(measure(empty=True))


@pytest.mark.slow
def test_retrieval_saves_steps():
    train, updates = load(f"{FILE}:train"), load(f"{FILE}:UPDATES")
    plain, retrieving = (train(retrieves, 0, updates)[1] for retrieves in (False, True))
    with_it = retrieving()
    assert with_it < plain() - 1
    assert with_it < retrieving(empty=True) - 1


def test_it_is_small():
    lines = FILE.read_text().splitlines()
    assert len(lines) < 200
    assert sum(line.endswith("# retrieval") for line in lines) <= 10
