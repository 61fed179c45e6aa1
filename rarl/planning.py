"""What `snakemake all` will do at a scale, and about how long that takes on this machine."""

from __future__ import annotations

import os
import time

from rarl.config import Run, Scale
from rarl.files import read_json
from rarl.jobs import code_of, job_of
from rarl.reporting.texts import check_texts
from rarl.training.progress import duration
from rarl.training.run_folder import RunPaths
from rarl.workflow import gpus

_REFERENCE_SECONDS = 0.026  # of `_reference_work` on the core that `about_core_minutes` was measured on


def _reference_work() -> float:
    """Seconds of one core for a fixed piece of arithmetic, the best of three."""
    import numpy as np

    a = np.random.default_rng(0).standard_normal((256, 256), dtype=np.float32)
    best = float("inf")
    for _ in range(3):
        started = time.process_time()
        for _ in range(150):
            np.tanh(a, out=a)
            a += 0.1
        best = min(best, time.process_time() - started)
    return best


def _is_finished(scale: Scale, run: Run) -> bool:
    """Whether nothing is left to do: a record alone, as a fresh clone has it, or one of other code does not count."""
    paths = RunPaths.of(run.id, scale.name, scale.root)
    if not (paths.record / "run.json").is_file() or not (paths.checkpoint / "checkpoint.pt").is_file():
        return False
    record = read_json(paths.record / "run.json")
    known = (record.get("status"), record.get("config_digest"), record.get("code_digest"))
    return known == ("finished", run.digest, code_of(job_of("train", run)))


def describe_plan(scale: Scale) -> str:
    """A few lines for a person: products, what is there already, time.

    Raises:
        RarlError: a fault in the texts of the report, which would be told at the very end.
    """
    check_texts(scale.root)
    root = scale.root
    runs = scale.runs.values()
    done = [run for run in runs if _is_finished(scale, run)]
    made = [d for d in scale.datasets if (root / "data" / scale.name / d / "manifest.json").is_file()]
    cores, n_gpus = os.cpu_count() or 1, gpus()
    slowness = _reference_work() / _REFERENCE_SECONDS
    left = scale.settings.about_core_minutes * (1 - len(done) / max(len(runs), 1))
    seconds = 60 * left * slowness / cores
    where = f"{cores} CPU core{'s' * (cores > 1)}" + (
        f" and {n_gpus} GPU{'s' * (n_gpus > 1)}" if n_gpus else ", no GPU"
    )
    return "\n".join(
        [
            f"Scale {scale.name}: {scale.settings.description}",
            f"  datasets  {len(scale.datasets)} ({len(made)} there)",
            f"  runs      {len(runs)} ({len(done)} finished), {len(scale.probes())} of them looked into",
            f"  report    reports/{scale.name}/report.html, a preview as soon as the first seed is through",
            f"About {duration(seconds)} on this machine ({where}; a core takes {slowness:.1f} times the reference's).",
            "Stop at any time with Ctrl-C; the same command goes on where it stopped.",
        ]
    )
