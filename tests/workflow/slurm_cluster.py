"""A throwaway Slurm cluster of this machine alone, from Debian's packages: no systemd, no cgroups, no GPU needed.

    apt-get install --no-install-recommends slurm-wlm slurmdbd munge mariadb-server
    python tests/workflow/slurm_cluster.py [--gpu] COMMAND ...

starts munged, mariadbd, slurmdbd, slurmctld and slurmd in a temporary folder, with keys, configuration, database and
ports of their own, runs the command in the cluster's environment, and takes everything down again. Needs root, since
slurmd starts jobs as their users. The default partition `main` has one node without a GPU; with `--gpu` there is a
second one, in a partition `gpu`. It is this machine again, and its GPU is made up: Slurm counts it, nothing is there.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

PROGRAMS = {  # Debian's package of each
    "munged": "munge",
    "mariadbd": "mariadb-server",
    "mariadb-install-db": "mariadb-server",
    "slurmdbd": "slurmdbd",
    "slurmctld": "slurm-wlm",
    "slurmd": "slurm-wlm",
    "sbatch": "slurm-wlm",
}
PLUGIN = "snakemake_executor_plugin_slurm"
PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
SECONDS_TO_START = 60


def why_not() -> str | None:
    """What this machine lacks to have a cluster; None if nothing."""
    packages = sorted({package for program, package in PROGRAMS.items() if shutil.which(program, path=PATH) is None})
    if packages:
        return f"a cluster needs Debian's packages {', '.join(packages)}"
    if os.geteuid() != 0:
        return "a cluster of one's own needs root: slurmd starts jobs as their users"
    if importlib.util.find_spec(PLUGIN) is None:
        return "Snakemake's plugin for Slurm is not installed: pip install -r requirements-slurm.txt"
    return None


class Cluster:
    """A cluster that is up between `start` and `stop`.

    Attributes:
      folder: of all its files. environment: for commands that use it.
    """

    def __init__(self, folder: Path, gpu: bool = False):
        self.folder = folder
        self.nodes = ["main", "gpu"] if gpu else ["main"]  # named as their partitions
        self.host = socket.gethostname().partition(".")[0]
        self.ports = dict(
            zip(("database", "slurmdbd", "slurmctld", *self.nodes), _free_ports(3 + len(self.nodes)), strict=True)
        )
        path = os.pathsep.join([str(folder / "bin"), PATH])
        self.environment = os.environ | {"PATH": path, "SLURM_CONF": str(folder / "slurm.conf")}
        self._daemons: list[tuple[str, subprocess.Popen]] = []

    def start(self) -> None:
        """Start the daemons one after the other, each as soon as the one before answers."""
        self._write_configuration()
        # munged refuses a key or a socket where others could put another in its place.
        self._daemon(
            "munged", "--foreground", "--force", f"--key-file={self.folder}/munge.key",
            f"--socket={self.folder}/munge.socket", f"--pid-file={self.folder}/munged.pid",
            f"--seed-file={self.folder}/munge.seed", "--num-threads=2",
        )  # fmt: skip
        self._wait("munged", lambda: (self.folder / "munge.socket").exists())
        self._start_database()
        self._daemon("slurmdbd", "-D")
        self._wait("slurmdbd", lambda: self._answers("sacctmgr", "--noheader", "list", "cluster"))
        self._daemon("slurmctld", "-D", "-i")
        self._wait("slurmctld", lambda: self._answers("scontrol", "ping"))
        self._wait("slurmctld's registration", lambda: "rarl" in self.run("sacctmgr", "-n", "list", "cluster"))
        for node in self.nodes:
            self._daemon("slurmd", "-D", "-N", node)
            state = ("sinfo", "--noheader", "--format=%T", f"--nodes={node}")
            self._wait(f"slurmd of {node}", lambda state=state: self.run(*state).split() == ["idle"])

    def stop(self) -> None:
        """End what jobs are left, and the daemons, the last one first."""
        with contextlib.suppress(subprocess.SubprocessError):
            self._answers("scancel", "--full", "--signal=KILL", "--user=root")
        for _, process in reversed(self._daemons):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._daemons.clear()

    def run(self, *command: str, timeout: float = 60) -> str:
        """The output of a command in the cluster."""
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=timeout, check=True
        ).stdout

    def accounting(self, *columns: str) -> list[dict[str, str]]:
        """What slurmdbd knows about each job (without its steps), by column of `sacct`."""
        return [dict(zip(columns, row, strict=True)) for row in self.sacct("-X", f"--format={','.join(columns)}")]

    def sacct(self, *arguments: str) -> list[list[str]]:
        """The rows of `sacct` about every job of this cluster: by itself it starts at the last midnight."""
        told = self.run("sacct", "--starttime=2000-01-01", "--noheader", "--parsable2", *arguments)
        return [line.split("|") for line in told.splitlines()]

    def _write_configuration(self) -> None:
        self.folder.chmod(0o755)
        for name in ("state", "database", "bin", *(f"spool-{node}" for node in self.nodes)):
            (self.folder / name).mkdir()
        # Snakemake's plugin takes all of Slurm's variables away from the srun of a job, where this one is needed.
        srun = self.folder / "bin" / "srun"
        srun.write_text(f'#!/bin/sh\nSLURM_CONF={self.folder}/slurm.conf exec {shutil.which("srun", path=PATH)} "$@"\n')
        srun.chmod(0o755)
        key = self.folder / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
        password = secrets.token_hex()
        (self.folder / "init.sql").write_text(
            "CREATE DATABASE slurm_acct_db;\n"  # a statement a line
            f"CREATE USER 'slurm'@'127.0.0.1' IDENTIFIED BY '{password}';\n"
            "GRANT ALL ON slurm_acct_db.* TO 'slurm'@'127.0.0.1';\n"
        )
        munge = f"AuthType=auth/munge\nAuthInfo=socket={self.folder}/munge.socket\n"
        accounting = self.folder / "slurmdbd.conf"
        accounting.write_text(f"""{munge}
DbdHost={self.host}
DbdAddr=127.0.0.1
DbdPort={self.ports["slurmdbd"]}
SlurmUser=root
PidFile={self.folder}/slurmdbd.pid
LogFile={self.folder}/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={self.ports["database"]}
StorageUser=slurm
StoragePass={password}
StorageLoc=slurm_acct_db
""")
        accounting.chmod(0o600)
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
        (self.folder / "slurm.conf").write_text(f"""{munge}
ClusterName=rarl
SlurmctldHost={self.host}(127.0.0.1)
SlurmctldPort={self.ports["slurmctld"]}
SlurmUser=root
SlurmdUser=root
StateSaveLocation={self.folder}/state
SlurmdSpoolDir={self.folder}/spool-%n
SlurmctldPidFile={self.folder}/slurmctld.pid
SlurmdPidFile={self.folder}/slurmd-%n.pid
SlurmctldLogFile={self.folder}/slurmctld.log
SlurmdLogFile={self.folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=2,sched_min_interval=100000,batch_sched_delay=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={self.ports["slurmdbd"]}
AccountingStoragePass={self.folder}/munge.socket
AccountingStorageTRES=gres/gpu
AccountingStoreFlags=job_comment
GresTypes=gpu
""")
        with (self.folder / "slurm.conf").open("a") as file:
            for node in self.nodes:
                gres, default = ("Gres=gpu:1", "NO") if node == "gpu" else ("", "YES")
                file.write(
                    f"NodeName={node} NodeHostname={self.host} NodeAddr=127.0.0.1 Port={self.ports[node]} {gres}"
                    f" CPUs={os.cpu_count()} RealMemory={memory} State=UNKNOWN\n"
                    f"PartitionName={node} Nodes={node} Default={default} MaxTime=INFINITE State=UP\n"
                )
        if "gpu" in self.nodes:
            (self.folder / "gres.conf").write_text("NodeName=gpu Name=gpu File=/dev/null\n")

    def _start_database(self) -> None:
        data = self.folder / "database"
        self.run(
            "mariadb-install-db", "--no-defaults", "--user=root", f"--datadir={data}", "--skip-test-db",
            "--auth-root-authentication-method=normal", timeout=SECONDS_TO_START,
        )  # fmt: skip
        self._daemon(
            "mariadbd", "--no-defaults", "--user=root", f"--datadir={data}", f"--socket={self.folder}/database.socket",
            f"--port={self.ports['database']}", "--bind-address=127.0.0.1", "--skip-name-resolve",
            f"--pid-file={self.folder}/mariadbd.pid", f"--init-file={self.folder}/init.sql",
            "--innodb-buffer-pool-size=64M", "--innodb-lock-wait-timeout=900",
        )  # fmt: skip
        self._wait("mariadbd", lambda: _listens(self.ports["database"]))

    def _daemon(self, program: str, *arguments: str) -> None:
        with (self.folder / f"{program}.output").open("a") as output:
            process = subprocess.Popen(
                [program, *arguments],
                executable=shutil.which(program, path=PATH),
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )
        self._daemons.append((program, process))

    def _answers(self, *command: str) -> bool:
        done = subprocess.run(command, env=self.environment, capture_output=True, timeout=30, check=False)
        return done.returncode == 0

    def _wait(self, what: str, ready: Callable[[], bool]) -> None:
        until = time.monotonic() + SECONDS_TO_START
        while True:
            for program, process in self._daemons:
                if process.poll() is not None:
                    raise RuntimeError(f"{program} ended with {process.returncode}: {self._said(program)}")
            with contextlib.suppress(subprocess.SubprocessError):
                if ready():
                    return
            if time.monotonic() > until:
                raise RuntimeError(f"{what} is not ready: {self._said(self._daemons[-1][0])}")
            time.sleep(0.2)

    def _said(self, program: str) -> str:
        """The end of what a daemon wrote."""
        files = [*self.folder.glob(f"{program}*.output"), *self.folder.glob(f"{program}*.log")]
        return "\n".join(file.read_text()[-2000:] for file in files)


def _end_with_parent() -> None:
    """Have this process ended when the one that started it is gone, even if that was killed."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def _free_ports(n: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def cluster(gpu: bool = False) -> Iterator[Cluster]:
    """A cluster that is up inside the `with`."""
    # Paths of sockets may have 107 characters at most.
    with tempfile.TemporaryDirectory(prefix="slurm-", dir="/tmp") as folder:
        one = Cluster(Path(folder), gpu)
        try:
            one.start()
            yield one
        finally:
            one.stop()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--gpu", action="store_true", help="a second node, with a GPU that is made up")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    lacking = why_not()
    if lacking:
        print(lacking, file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything is taken down
    with cluster(arguments.gpu) as one:
        return subprocess.run(arguments.command or ["sinfo"], env=one.environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
