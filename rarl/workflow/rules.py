"""What the Snakefile asks: the scale, the files of datasets, the GPUs of this machine. Imports no torch."""

from __future__ import annotations

import csv
import importlib.metadata
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rarl.config.scale import Dataset, Run, Scale, index_cost_plan, task_set_name, values_of
from rarl.envs.spec import sources_of, spec_of
from rarl.errors import RarlError, did_you_mean
from rarl.files import digest

_ARRAYS = ("observations", "actions", "rewards", "offsets", "returns")  # of every dataset


def dataset_files(dataset: Dataset) -> list[str]:
    """The names of a dataset's files."""
    arrays = (*_ARRAYS, *sources_of(spec_of(dataset.environment))[dataset.settings.source].arrays)
    return ["manifest.json", *(f"{name}.npy" for name in arrays)]


def dataset_kinds(scale: Scale) -> dict[str, list[str]]:
    """{environment}/{source} of all datasets of a scale -> the names of a dataset's files."""
    return {dataset.id.rpartition("/")[0]: dataset_files(dataset) for dataset in scale.datasets.values()}


def scale_of(config: Mapping[str, Any], root: str | Path = ".") -> Scale:
    """The validated scale that a Snakemake `config` asks for.

    Raises:
        RarlError: a key other than "scale", or a fault in the files of that scale or in the report's texts.
    """
    for key in config:
        if key != "scale":
            raise RarlError(
                f"--config {key}=...: only 'scale' can be set there ({did_you_mean(key, ['scale'])}); "
                "settings of runs and datasets belong in the files under config/"
            )
    if "scale" not in config:
        raise RarlError("config/config.yaml: must hold one key, 'scale'")
    scale = Scale(str(config["scale"]), root)
    from rarl.reporting.choices import check_texts  # which jobs have no need of

    check_texts(root)
    return scale


def prepare_environment() -> None:
    """Set the environment variables that jobs inherit.

    Jobs use the Python of this Snakemake, also where nobody has activated its environment; a job is one process on its
    `threads`, so libraries must not start one thread per core beside it.
    """
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # glibc returns the memory of tensors, and asks for it again, thousands of times a learner step: to keep it
    # saves 1 % of RA-DQN's steps and 6 % of RA-RDQN's, for 1 % more memory.
    kept = "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=33554432:glibc.malloc.trim_threshold=1073741824"
    os.environ.setdefault("GLIBC_TUNABLES", kept)


def preview_runs(scale: Scale) -> list[str]:
    """Ids of the runs that a first look needs: of each experiment the largest task set, with its first seed."""
    return [run.id for run in scale.wanted().values() if _is_first(run, scale)]


def _is_first(run: Run, scale: Scale) -> bool:
    s = run.settings
    first_seed = (scale.settings.experiments[s.experiment].seeds or scale.settings.seeds)[0]
    largest = scale.largest_task_set(s.experiment)
    return largest is not None and s.task_set == task_set_name(largest) and s.seed == first_seed


def described_scales(root: str | Path = ".") -> list[str]:
    """The files of the scales in results/costs-history.csv, of which a report says what they are about."""
    history = Path(root) / "results" / "costs-history.csv"
    if not history.is_file():
        return []
    with history.open(encoding="utf-8", newline="") as file:
        named = sorted({f"config/{row.get('scale')}.yaml" for row in csv.DictReader(file)})
    return [path for path in named if (Path(root) / path).is_file()]


def report_files(scale: Scale) -> list[str]:
    """The files of a scale's report, but for those in its folders."""
    from rarl.reporting.registry import ERRATA, NAVIGATION, pages_of  # which jobs have no need of

    more = ["errata"] if (scale.root / "results" / scale.name / ERRATA).is_file() else []
    return [f"{page}.md" for page in pages_of(scale.experiments.values()) + more] + [NAVIGATION]


def plan_digest(scale: Scale) -> str:
    """A digest of what the report of a scale describes, and of what it says of it, 12 hex digits.

    That is its settings, all planned runs, and what experiments say of themselves and their variants beside settings.
    """
    runs = {run.id: run.digest for run in scale.runs.values()}
    in_runs: dict[str, Any] = {"base": True, "variants": {"__all__": {"settings": True}}}
    experiments = {name: e.model_dump(mode="json", exclude=in_runs) for name, e in scale.experiments.items()}
    # How costs are measured is known by their own digest, and what jobs ask for changes no result.
    settings = scale.settings.model_dump(mode="json", exclude={"costs", "resources"})
    return digest({"settings": settings, "runs": runs, "experiments": experiments})


def cost_digest(scale: Scale) -> str:
    """A digest of what the costs of a scale are measured of, and how long, 12 hex digits."""
    measured = {
        name: {
            "base": scale.base_variant(name),
            # Unlike a run's own digest also with what changes its time alone.
            "runs": {variant: digest(values_of(run.settings)) for variant, run in runs.items()},
        }
        for name, runs in scale.cost_runs().items()
    }
    return digest({"settings": values_of(scale.settings.costs), "measured": measured})


def index_cost_digest(scale: Scale) -> str:
    """A digest of what the cost of an index is measured on, 12 hex digits."""
    plan = index_cost_plan(scale)
    return digest(None if plan is None else {"settings": values_of(plan[0]), "run": plan[1].digest})


def torch_knows_gpus() -> bool:
    """Whether torch is installed, and not a build for CPUs alone."""
    try:
        return not importlib.metadata.version("torch").endswith("+cpu")
    except importlib.metadata.PackageNotFoundError:
        return False


def gpus(devices: str | Path = "/dev") -> int:
    """How many NVIDIA GPUs jobs can use: none with a CPU build of torch, or if CUDA_VISIBLE_DEVICES hides them."""
    if not torch_knows_gpus():
        return 0
    present = sum(path.name.removeprefix("nvidia").isdecimal() for path in Path(devices).glob("nvidia*"))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return present
    asked = 0
    for part in visible.split(","):
        if part.strip() in ("", "-1"):  # CUDA ignores what follows an invalid entry
            break
        asked += 1
    return min(asked, present)
