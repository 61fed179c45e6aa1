"""Runs as processes that can be killed, and what is compared afterwards."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rarl.runs import checkpoints


def flat(state: Any, prefix: str = "") -> dict[str, Any]:
    """{path: leaf} of nested dicts and lists."""
    if isinstance(state, dict):
        return {k: v for key, value in state.items() for k, v in flat(value, f"{prefix}/{key}").items()}
    if isinstance(state, list | tuple):
        return {k: v for i, value in enumerate(state) for k, v in flat(value, f"{prefix}/{i}").items()}
    return {prefix: state}


def assert_same(one: Any, other: Any) -> None:
    """Two nested states are bitwise equal."""
    one, other = flat(one), flat(other)
    assert one.keys() == other.keys()
    for name, value in one.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, other[name]), name
        else:
            assert np.array_equal(value, other[name]), name


def start(root: Path, run: str, *arguments: str) -> subprocess.Popen:
    """`rarl train` of a run."""
    return subprocess.Popen(
        [sys.executable, "-m", "rarl", "train", run, "--device", "cpu", *arguments],
        cwd=root,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for_update(root: Path, run: str, process: subprocess.Popen, update: int) -> None:
    """Until the run's log has this update and a checkpoint was written since."""
    folder = root / "scratch" / "tiny" / "runs" / run
    deadline, saved = time.monotonic() + 240, None
    while time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.005)
        try:
            last = (folder / "training.csv").read_text().splitlines()[-1].split(",")[0]
            now = (folder / "checkpoint.pt").stat().st_mtime_ns
        except (FileNotFoundError, IndexError):
            continue
        if last.isdecimal() and int(last) >= update:
            saved = saved or now
            if now != saved:
                return
    end = "too slow" if process.poll() is None else process.communicate()
    raise AssertionError(f"not seen at update {update}: {end}")


def products(root: Path, run: str) -> tuple[Any, bytes, list[dict[str, str]], dict[str, Any]]:
    """The published state, evaluations and diagnoses, rows of the training log without their seconds, and run.json."""
    record = root / "results" / "tiny" / "runs" / run
    checkpoint = checkpoints.load(root / "results" / "tiny" / "checkpoints" / run / "checkpoint.pt")
    with open(record / "training.csv", encoding="utf-8") as file:
        rows = [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]
    return (
        checkpoint.state,
        (record / "evaluations.csv").read_bytes() + (record / "retrieval.csv").read_bytes(),
        rows,
        json.loads((record / "run.json").read_text()),
    )
