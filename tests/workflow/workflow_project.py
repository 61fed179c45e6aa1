"""A copy of this project in a temporary folder, with its own git repository and a scale of two short runs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import yaml

from rarl.envs.gridroboman.tasks import TASK_SETS

HERE = Path(__file__).resolve().parents[2]
PRODUCTS = {".git", ".venv", ".snakemake", "data", "scratch", "logs", "benchmarks", "reports", "build", "dvc.lock"}
NOT_SHARED = {".dvc": {"cache", "tmp", "config.local"}, "results": {"smoke", "laptop", "workstation", "paper"}}

DQN, RA_DQN = "gridroboman/10-tasks/dqn-hidden/seed-0", "gridroboman/10-tasks/ra-dqn-hidden/seed-0"
TINY = {
    "description": "two short runs",
    "allows_verdicts": False,
    "about_core_minutes": 0.5,
    "seeds": [0],
    "costs": {"seconds_per_variant": 0.01},
    "datasets": {
        "gridroboman": [
            {"source": "planner", "tasks": [task.name for task in TASK_SETS[10]], "episodes": 6, "seed": 0},
        ]
    },
    "experiments": {
        "gridroboman": {
            "settings": {
                "updates": 6,
                "log_every": 2,
                "checkpoint_seconds": 0.2,
                "tensorboard": False,
                "agent": {
                    "d_s": 16,
                    "retrieval": {
                        "n_f": 1,
                        "d_m": 4,
                        "d_e": 4,
                        "d_v": 4,
                        "slot_heads": 1,
                        "n_traj": 2,
                        "k_traj": 2,
                        "k_states": 2,
                        "step_stride": 25,
                        "d_h": 8,
                    },
                },
                "learning": {"batch_states": 10, "target_period_updates": 2},
                "evaluation": {"every_updates": 3, "episodes_per_task": 1},
            },
            "task_sets": {10: {"variants": ["dqn-hidden", "ra-dqn-hidden"], "probes": ["ra-dqn-hidden"]}},
        }
    },
}


def copy_sources(folder: Path) -> None:
    """Copy what is no product, as `git clone` would; .gitignore sees to the rest."""

    def ignore(where: str, names: list[str]) -> set[str]:
        relative = Path(where).relative_to(HERE).as_posix()
        unwanted = PRODUCTS if relative == "." else NOT_SHARED.get(relative, set())
        return {name for name in names if name in unwanted or name == "__pycache__" or name.endswith("_cache")}

    shutil.copytree(HERE, folder, ignore=ignore, symlinks=True)


class Project:
    """A checkout and the commands that people give in it."""

    def __init__(self, folder: Path, store: Path):
        self.folder, self.store = folder, store
        self.environment = {
            **{
                key: value
                for key, value in os.environ.items()
                if not key.startswith(("AWS_", "DVC_", "GIT_", "PYTEST_", "PYTHON", "MAKE"))
            },
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",  # no GPU is no obstacle
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_SYSTEM": os.devnull,
            "DVC_GLOBAL_CONFIG_DIR": str(store / "dvc"),
            "DVC_SYSTEM_CONFIG_DIR": str(store / "dvc"),
            "DVC_SITE_CACHE_DIR": str(store / "dvc-site"),
            "HOME": str(store),  # nothing of the user's may decide
            "XDG_CACHE_HOME": str(store / "cache"),
        }
        self.environment |= {
            f"GIT_{who}_{what}": "test" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
        }

    def start(self, *command: str, output: Path, **environment: str) -> subprocess.Popen:
        """Start a command as the leader of its own process group."""
        with output.open("w") as file:
            return subprocess.Popen(
                command,
                cwd=self.folder,
                env=self.environment | environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def run(self, *command: str, expect: int | None = 0, **environment: str) -> str:
        """The output of a command; `expect` is its exit code, None for any."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=1200,
        )
        assert expect is None or done.returncode == expect, f"{command} ended with {done.returncode}:\n{done.stdout}"
        return done.stdout

    def snakemake(self, *arguments: str, **keywords) -> str:
        return self.run("snakemake", "--cores", "2", *arguments, **keywords)

    def make(self, *arguments: str, **keywords) -> str:
        """make with the environment that runs these tests in the place of .venv."""
        stamp = self.store / "stamp"
        stamp.touch()
        return self.run("make", f"STAMP={stamp}", "CORES=2", *arguments, **keywords)

    def planned(self, *targets: str) -> dict[str, int]:
        """Jobs that Snakemake would run now: rule -> number."""
        output = self.snakemake("-n", *(targets or ("all",)))
        jobs = jobs_in(output.rpartition("\nJob stats:")[0])  # a dry run says it twice
        assert bool(jobs) != ("Nothing to be done" in output), output
        return jobs

    def stages(self) -> list[str]:
        """Stages that `dvc repro` would run now."""
        return re.findall(r"Running stage '([\w-]+)@\w+'", self.run("dvc", "repro", "--dry"))

    def commit(self, message: str) -> None:
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--allow-empty", "--message", message)

    def clone(self, folder: Path) -> Project:
        """A fresh clone that knows the same DVC remote."""
        self.run("git", "clone", "--quiet", str(self.folder), str(folder))
        project = Project(folder, self.store)
        project.set_remote()
        return project

    def set_remote(self) -> None:
        self.run("dvc", "remote", "add", "--quiet", "--local", "--default", "store", str(self.store / "remote"))

    def edit(self, path: str, old: str, new: str) -> None:
        """Replace text in a file; it must occur once."""
        text = (self.folder / path).read_text()
        assert text.count(old) == 1, f"{path}: {text.count(old)} times {old!r}"
        (self.folder / path).write_text(text.replace(old, new))

    def append(self, path: str, text: str) -> None:
        with (self.folder / path).open("a") as file:
            file.write(text)

    def scale(self, change) -> None:
        """Change the settings of the scale in place."""
        path = self.folder / "config" / "tiny.yaml"
        settings = yaml.safe_load(path.read_text())
        change(settings)
        path.write_text(yaml.safe_dump(settings, sort_keys=False))

    def product(self, kind: str, run: str, name: str) -> Path:
        return self.folder / "results" / "tiny" / kind / run / name


def jobs_in(output: str) -> dict[str, int]:
    """The jobs that the "Job stats" tables of Snakemake's output announce; target rules left out."""
    targets = {
        "all",
        "datasets",
        "train",
        "probes",
        "costs",
        "index_cost",
        "report",
        "preview",
        "site",
        "extended",
        "total",
    }
    jobs: Counter[str] = Counter()
    for table in re.findall(r"Job stats:\njob +count\n[- ]+\n((?:\w+ +\d+\n)+)", output):
        for line in table.splitlines():
            name, number = line.split()
            if name not in targets:
                jobs[name] += int(number)
    return dict(jobs)
