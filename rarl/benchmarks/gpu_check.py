"""Whether a GPU computes what a CPU computes, and what learner steps cost on it.

`python -m rarl.benchmarks.gpu_check FOLDER` takes about six minutes on a machine with a GPU, an estimate; elsewhere the
CPU is compared with itself. Missing datasets are made. FOLDER gets costs.csv and environment-speed.csv of `rarl costs`;
the same with learner steps as CUDA graphs in the folder captured/; machine.json; and equality.csv: for each variant

    experiment, variant, device
    cuda_graph          off, or auto: a learner step is one CUDA graph where it can be
    losses              compared, from the first learner step on: `STEPS`, or what a CPU does in `SECONDS` or in all
                        updates of the run; a variant without any has no row
    first_difference    of the first losses, relative
    largest_difference  of all

Convolutions compute without TF32 in the comparison. The exit code is 1 if a difference exceeds `TOLERANCE`.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from rarl import provenance
from rarl.benchmarks.costs import measure_costs
from rarl.collect.make import make_dataset
from rarl.config.scale import Run, Scale
from rarl.errors import RarlError
from rarl.files import check_folder_writable, csv_text, write_json, write_text
from rarl.runs.device import choose_device
from rarl.runs.loop import LoopSettings, torch_settings
from rarl.runs.train import learner_of, open_datasets
from rarl.trajectories.plan import folder_of
from rarl.trajectories.store import MANIFEST, TrajectoryDataset

log = logging.getLogger(__name__)

COLUMNS = ("experiment", "variant", "device", "cuda_graph", "losses", "first_difference", "largest_difference")
STEPS, SECONDS, TOLERANCE = 50, 8.0, 0.01
GRAPHS = ("off", "auto")


def losses(
    run: Run, datasets: Sequence[TrajectoryDataset], device: str, steps: int, seconds: float = float("inf")
) -> list[float]:
    """Those of the first learner steps, within the updates of the run: at most so many, and for so many seconds.

    Empty for an agent that learns by no loss, or not within its updates.
    """
    found: list[float] = []
    if run.settings.agent.base == "mfec":
        return found
    with torch_settings(LoopSettings(device=device, threads=run.settings.threads), run.settings.seed):
        learner, ends = learner_of(run, list(datasets), device), float("inf")
        for _ in range(run.settings.updates):
            if len(found) == steps or time.monotonic() >= ends:
                break
            scalars = learner.update()
            if "loss" in scalars:
                found.append(float(scalars["loss"]))
                ends = min(ends, time.monotonic() + seconds)
    return found


def compare(scale: Scale, device: str) -> list[tuple]:
    """The rows of equality.csv."""
    rows = []
    for experiment, runs in scale.cost_runs().items():
        for variant, run in runs.items():
            datasets = open_datasets(scale, run)
            expected = losses(run, datasets, "cpu", STEPS, SECONDS)
            if not expected:
                log.info("%s %s: no losses to compare", experiment, variant)
                continue
            for graph in GRAPHS:
                ready = run.with_settings(run.settings.model_copy(update={"cuda_graph": graph}))
                found = losses(ready, datasets, device, len(expected))
                differences = [abs(a - b) / max(abs(a), abs(b), 1e-6) for a, b in zip(expected, found, strict=True)]
                numbers = [f"{number:.3g}" for number in (differences[0], max(differences))]
                rows.append((experiment, variant, device, graph, len(expected), *numbers))
                log.info("%s %s, graph %s: %d losses, differences %s and at most %s", *rows[-1][:2], *rows[-1][3:])
    return rows


def check(scale: Scale, folder: Path, device: str) -> bool:
    """Write everything; whether the losses agree."""
    check_folder_writable(folder)
    for dataset in scale.datasets.values():
        if not (folder_of(scale, dataset.id) / MANIFEST).is_file():
            make_dataset(scale, dataset)
    write_json(folder / "machine.json", provenance.hardware(device=device) | {"versions": provenance.versions()})
    tf32, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
    try:
        rows = compare(scale, device)
    finally:
        torch.backends.cudnn.allow_tf32 = tf32
    write_text(folder / "equality.csv", csv_text([COLUMNS, *rows]))
    for graph, place in zip(GRAPHS, (folder, folder / "captured"), strict=True):
        place.mkdir(exist_ok=True)
        measure_costs(scale, place / "costs.csv", device, changes={"cuda_graph": graph})
    return all(float(row[-1]) <= TOLERANCE for row in rows)


def main(argv: list[str] | None = None) -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m rarl.benchmarks.gpu_check")
    parser.add_argument("folder", type=Path, help="where the results go")
    parser.add_argument("--scale", default="reference", help="a file config/SCALE.yaml")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    try:
        agree = check(Scale(arguments.scale), arguments.folder, choose_device(arguments.device))
    except RarlError as error:
        sys.exit(f"gpu_check: error: {error}")
    sys.exit(0 if agree else f"gpu_check: losses differ by more than {TOLERANCE:.0%}: {arguments.folder}/equality.csv")


if __name__ == "__main__":
    main()
