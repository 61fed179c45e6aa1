"""README's remote section against servers of this machine: S3 (moto) and ssh (OpenSSH). `make test-all` runs them."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.workflow.test_kept_products import follow_the_readme
from tests.workflow.workflow_project import HERE, Project

pytestmark = [pytest.mark.servers, pytest.mark.workflow]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def wait_for(port: int, process: subprocess.Popen, output: Path) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        assert process.poll() is None, output.read_text()
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError(output.read_text())


@pytest.fixture
def s3(tmp_path: Path) -> Iterator[str]:
    """The address of an S3 server with an empty bucket named "bucket"."""
    places = os.pathsep.join([str(HERE / "build/moto/bin"), os.environ["PATH"]])
    program = shutil.which("moto_server", path=places)
    if program is None:
        pytest.skip("no moto_server; `python3 -m venv build/moto && build/moto/bin/pip install 'moto[server]'`")
    port, output = free_port(), tmp_path / "moto.txt"
    with output.open("w") as file:
        process = subprocess.Popen(
            [program, "-H", "127.0.0.1", "-p", str(port)], stdout=file, stderr=file, env={"PATH": os.environ["PATH"]}
        )
    try:
        wait_for(port, process, output)
        address = f"http://127.0.0.1:{port}"
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        direct.open(urllib.request.Request(f"{address}/bucket", method="PUT")).close()
        yield address
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def ssh(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The address of an ssh server that lets this user in, and the key."""
    program = shutil.which("sshd", path=os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/usr/local/sbin"]))
    if program is None or shutil.which("ssh-keygen") is None:
        pytest.skip("no sshd; on Debian and Ubuntu: apt install openssh-server")
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)], check=True)
    shutil.copy(tmp_path / "user.pub", tmp_path / "authorized_keys")
    port, output = free_port(), tmp_path / "sshd.txt"
    settings = tmp_path / "sshd_config"
    settings.write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {tmp_path}/host\nPidFile none\nUsePAM no\nStrictModes no\n"
        f"AuthorizedKeysFile {tmp_path}/authorized_keys\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n"
        "Subsystem sftp internal-sftp\nMaxStartups 100\nMaxSessions 100\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where sshd of root gives up its rights
    with output.open("w") as file:
        process = subprocess.Popen([program, "-D", "-e", "-f", str(settings)], stdout=file, stderr=file)
    try:
        wait_for(port, process, output)
        yield f"ssh://{getpass.getuser()}@127.0.0.1:{port}", tmp_path / "user"
    finally:
        process.terminate()
        process.wait()


def test_an_s3_server_keeps_the_data(recorded: Project, tmp_path: Path, s3: str) -> None:
    follow_the_readme(
        recorded,
        tmp_path,
        "s3://bucket/rarl",
        f"dvc remote modify storage endpointurl {s3}",
        AWS_ACCESS_KEY_ID="test",
        AWS_SECRET_ACCESS_KEY="test",
        AWS_DEFAULT_REGION="us-east-1",
        NO_PROXY="127.0.0.1",
    )


def test_an_ssh_server_keeps_the_data(recorded: Project, tmp_path: Path, ssh: tuple[str, Path]) -> None:
    address, key = ssh
    follow_the_readme(recorded, tmp_path, f"{address}{tmp_path / 'remote'}", f"dvc remote modify storage keyfile {key}")
