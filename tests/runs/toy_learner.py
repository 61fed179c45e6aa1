"""A tiny learner with every kind of random state, and a process that runs it on request.

`python toy_learner.py '{"root": ...}'` trains; `python toy_learner.py serve` imports torch once and forks a process per
request, so that tests can kill many real processes without paying for the import each time.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import resource
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rarl.errors import RarlError
from rarl.runs import checkpoints, loop
from rarl.runs.run_folder import CHECKPOINT, RunPaths

RUN = "toy/2-tasks/dqn/seed-0"


class ToyLearner:
    """Fits a teacher with dropout: draws from its own NumPy generator and torch's global one; keeps a small replay."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config
        self.generator = np.random.default_rng(config["seed"])
        width = config["learner"]["width"]
        self.net = torch.nn.Sequential(
            torch.nn.Linear(4, width), torch.nn.ReLU(), torch.nn.Dropout(0.2), torch.nn.Linear(width, 1)
        )
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=config["learner"]["lr"])
        self.replay = np.zeros((16, 4), np.float32)
        self.updates = 0

    def update(self) -> dict[str, float | torch.Tensor]:
        self.updates += 1
        fault = self.config.get("fault", {})
        if fault.get("sleep"):
            time.sleep(fault["sleep"])
        if fault.get("memory_at") == self.updates:
            torch.zeros(1 << 45)
        if fault.get("numpy_memory_at") == self.updates:
            np.ones(1 << 45)
        if fault.get("raise_at") == self.updates:
            raise ValueError("the environment broke")
        self.replay[self.updates % 16] = self.generator.standard_normal(4)
        x = torch.from_numpy(self.replay[self.generator.integers(16, size=8)])
        loss = (self.net(x).squeeze(1) - x.sum(1)).square().mean()
        if fault.get("nan_at") == self.updates:
            loss = loss * float("nan")
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        if fault.get("silent_nan_at") == self.updates:
            with torch.no_grad():
                self.net[0].weight[0, 0] = float("nan")
            return {"loss": 0.5}
        scalars = {"loss": loss, "gap": float(x.mean())}
        if self.updates > 25:
            scalars["late"] = self.updates
        return scalars

    def evaluate(self) -> list[dict[str, Any]]:
        noise = torch.rand(()).item()  # must not disturb training
        with torch.no_grad():
            value = float(self.net.eval()(torch.ones(4)))
        self.net.train()
        if self.config.get("fault", {}).get("evaluation_nan_at") == self.updates:
            value = float("nan")
        return [
            {"task": task, "episodes": 10, "return_mean": value + index + noise, "return_std": 0.5, "success_rate": 0.1}
            for index, task in enumerate(("lift-red", "touch, blue"))
        ]

    def diagnose(self) -> dict[str, float]:
        if not self.updates:
            return {}
        fault = self.config.get("fault", {}).get("diagnosis_nan_at") == self.updates
        return {"attended": float("nan") if fault else self.updates + torch.rand(()).item()}

    def state_dict(self) -> dict[str, Any]:
        return {
            "net": self.net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.bit_generator.state,
            "replay": self.replay,
            "updates": self.updates,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.net.load_state_dict(state["net"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.bit_generator.state = state["generator"]
        self.replay = state["replay"].copy()
        self.updates = state["updates"]

    def parameter_counts(self) -> dict[str, int]:
        return {"net": sum(parameter.numel() for parameter in self.net.parameters())}


def config(**changes: Any) -> dict[str, Any]:
    """The toy's configuration; "learner" keys are merged."""
    learner = {"lr": 0.01, "width": 8, **changes.pop("learner", {})}
    return {"seed": 3, "learner": learner, **changes}


def train_toy(
    root: str | os.PathLike,
    *,
    updates: int = 60,
    evaluate_every: int = 20,
    log_every: int = 7,
    checkpoint_seconds: float = 0.0,
    code_digest: str = "0123456789ab",
    data: Mapping[str, str] | None = None,
    settings: Mapping[str, Any] | None = None,
    force: bool = False,
    restart_if_changed: bool = False,
    record_failure: bool = False,
    file_limit: int | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """One run of the toy under `root`; the other arguments as those of `train`, or of the configuration."""
    resolved = config(**changes)
    if file_limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    # What a test breaks is not part of what the run is.
    named = {key: value for key, value in resolved.items() if key != "fault"}
    return loop.train(
        lambda: ToyLearner(resolved),
        loop.Budget(updates, evaluate_every, log_every, checkpoint_seconds),
        RunPaths.of(RUN, "smoke", root),
        record={"run": RUN, "seed": resolved["seed"], "config": named, "code_digest": code_digest, "data": data or {}},
        settings=loop.LoopSettings(threads=1, **(settings or {})),
        force=force,
        restart_if_changed=restart_if_changed,
        record_failure=record_failure,
    )


def save_forever(folder: str) -> None:
    """Write one checkpoint after the other until killed; the content tells which."""
    for number in range(1_000_000):
        state = {"number": number, "tensor": torch.full((20_000,), float(number))}
        checkpoints.save(Path(folder) / CHECKPOINT, state, checkpoints.Header(RUN, update=number))


def main(options: dict[str, Any]) -> int:
    """What a command line would do: the exit code of the request."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", force=True)
    try:
        if "save_forever" in options:
            save_forever(options["save_forever"])
        else:
            train_toy(**options)
    except RarlError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except SystemExit as stop:
        return int(stop.code)
    except KeyboardInterrupt:  # before or after the loop, where it changes nothing
        return 130
    return 0


class Server:
    """Real processes for tests: `start`, kill by pid, `wait` for the exit code (minus the signal that ended it)."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, "serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def _ask(self, **request: Any) -> Any:
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def start(self, errors: str | os.PathLike = os.devnull, **options: Any) -> int:
        return self._ask(
            options={key: str(v) if isinstance(v, Path) else v for key, v in options.items()}, errors=str(errors)
        )

    def wait(self, pid: int) -> int:
        return self._ask(wait=pid)

    def run(self, errors: str | os.PathLike = os.devnull, **options: Any) -> int:
        return self.wait(self.start(errors, **options))

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def serve() -> None:
    """Answer requests, one JSON line each: {"options", "errors"} gives a pid, {"wait": pid} its exit code."""
    torch.set_num_threads(1)
    parameter = torch.nn.Parameter(torch.zeros(1))
    parameter.grad = torch.zeros(1)
    torch.optim.Adam([parameter]).step()  # imports much more of torch
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            _, status = os.waitpid(request["wait"], 0)
            print(os.waitstatus_to_exitcode(status), flush=True)
            continue
        pid = os.fork()
        if pid == 0:
            code = 130
            with contextlib.suppress(KeyboardInterrupt):
                signal.alarm(60)  # a child that hangs fails its test instead of stopping the suite
                descriptor = os.open(request["errors"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
                os.dup2(descriptor, 2)
                # Only a power cut needs it, which no test makes; the toys would mostly wait for the disk.
                pause = request["options"].pop("fsync_seconds", 0.0)
                os.fsync = lambda descriptor, pause=pause: time.sleep(pause)
                try:
                    code = main(request["options"])
                except Exception:
                    traceback.print_exc()
                    code = 1
                sys.stderr.flush()
            os._exit(code)
        print(pid, flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve()
    else:
        sys.exit(main(json.loads(sys.argv[1])))
