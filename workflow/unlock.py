"""Removes the lock that a killed Snakemake left in this folder, if it is certain that nobody works under it.

Run by the Makefile before Snakemake. Says nothing where there is no lock. Exit code 1: the folder is in use.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

STATE = Path(".snakemake")


def main() -> int:
    """Look at the lock, the processes of this machine and the note that the workflow leaves at its start."""
    if not any((STATE / "locks").glob("*")):
        return 0
    workflows, jobs = processes_in(Path.cwd())
    if workflows:
        print(f"A workflow is running in this folder (process {_list(workflows)}); wait for it or stop it with Ctrl-C.")
        return 1
    host = _host_of_holder()
    if host != socket.gethostname():
        print(
            f"The workflow in this folder was started on {host}. If it does not run there any more: "
            f"rm {STATE / 'holder.json'}, then again."
        )
        return 1
    if jobs:
        print(
            f"Jobs of a killed workflow are still running in this folder (process {_list(jobs)}). Wait for them, or "
            f"`kill {' '.join(map(str, jobs))}`: training goes on where it stopped."
        )
        return 1
    print("A workflow was killed here; removing its lock.")
    done = subprocess.run([sys.executable, "-m", "snakemake", "--unlock"], capture_output=True, text=True)
    if done.returncode:
        print(done.stderr)
    return done.returncode


def processes_in(folder: Path) -> tuple[list[int], list[int]]:
    """Ids of the Snakemake processes and of the `rarl` jobs that work in `folder`."""
    import psutil

    workflows, jobs = [], []
    for process in psutil.process_iter():
        try:
            if process.pid == os.getpid() or Path(process.cwd()) != folder:
                continue
            command = process.cmdline()
        except (psutil.Error, OSError):  # ended meanwhile, or of another user
            continue
        names = [Path(part).name for part in command[:3]]
        if not names or not (names[0].startswith("python") or names[0] in ("snakemake", "rarl")):
            continue  # a shell or an editor that only mentions one of them
        if "snakemake" in names:
            workflows.append(process.pid)
        elif "rarl" in names:
            jobs.append(process.pid)
    return sorted(workflows), sorted(jobs)


def _host_of_holder() -> str:
    try:
        return json.loads((STATE / "holder.json").read_text())["host"]
    except (OSError, ValueError, KeyError):
        return socket.gethostname()  # killed before it left its note: the processes have been looked at


def _list(pids: list[int]) -> str:
    return ", ".join(map(str, pids))


if __name__ == "__main__":
    sys.exit(main())
