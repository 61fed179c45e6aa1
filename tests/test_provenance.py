"""Digests of code, and what a record says about its making."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time

import pytest

from rarl import provenance
from rarl.errors import RarlError
from rarl.provenance import code_digest, git_state, imported_modules

FILES = {
    "__init__.py": '"""The package."""\n\n__version__ = "1.0"\n',
    "core.py": '''
"""Core."""
import math
from toy import settings

def area(r):
    """Area."""
    return math.pi * r * r * settings.FACTOR  # why
''',
    "settings.py": "FACTOR = 1.0\n",
    "agents/__init__.py": "from toy.agents.base import Agent\n",
    "agents/base.py": "class Agent:\n    pass\n",
    "agents/dqn.py": """
from ..core import area
from . import base
from .nets.mlp import build

def act():
    from toy.late import value
    return value, area, base, build
""",
    "agents/nets/__init__.py": "",
    "agents/nets/mlp.py": "def build():\n    return 'toy.registry:thing'\n",
    "registry.py": "thing = 1\n",
    "late.py": "value = 1\n",
    "other.py": "from toy.agents import dqn\nx = 1\n",
    "report/__init__.py": "",
    "report/page.py": "from toy import other\n",
    "uses_report.py": "import toy.report.page\nimport toy.late\n",
}


@pytest.fixture
def package(tmp_path):
    root = tmp_path / "toy"
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_what_is_covered(package):
    assert imported_modules(["toy.agents.dqn"], root=package) == [
        "toy",
        "toy.agents",
        "toy.agents.base",
        "toy.agents.dqn",
        "toy.agents.nets",
        "toy.agents.nets.mlp",
        "toy.core",
        "toy.late",
        "toy.registry",
        "toy.settings",
    ]


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("core.py", '"""Core."""', '"""Another text."""'),
        ("core.py", '    """Area."""\n', ""),
        ("core.py", "# why", "# because"),
        ("core.py", "math.pi * r * r * settings.FACTOR", "(math.pi * r\n        * r * settings.FACTOR)"),
        ("core.py", "\ndef area", "\n\n\n\ndef area"),
        ("agents/base.py", "    pass", '    """An agent."""'),
        ("agents/nets/mlp.py", "'toy.registry:thing'", '"toy.registry:thing"'),
        ("__init__.py", "1.0", "1.1"),
        ("__init__.py", "The package", "A package"),
        ("other.py", "x = 1", "x = 2"),
        ("report/page.py", "from", "y = 3\nfrom"),
    ],
)
def test_what_changes_nothing_that_runs_leaves_the_digest(package, file, old, new):
    before = code_digest(["toy.agents.dqn"], root=package)
    change(package / file, old, new)
    assert code_digest(["toy.agents.dqn"], root=package) == before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("settings.py", "1.0", "1.5"),
        ("settings.py", "1.0", "1"),
        ("settings.py", "FACTOR = 1.0", "FACTOR: float = 1.0"),
        ("core.py", "r * r", "r + r"),
        ("core.py", "area(r)", "area(r=1)"),
        ("late.py", "1", "2"),
        ("registry.py", "1", "2"),
        ("agents/__init__.py", "Agent", "Agent as A"),
        ("agents/base.py", "class Agent", "class Agent(dict)"),
        ("agents/nets/__init__.py", "", "x = 1"),
        ("agents/nets/mlp.py", "return 'toy", "return b'toy"),
    ],
)
def test_what_changes_something_that_runs_changes_it(package, file, old, new):
    before = code_digest(["toy.agents.dqn"], root=package)
    change(package / file, old, new)
    assert code_digest(["toy.agents.dqn"], root=package) != before


def change(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1) if old else new)


def test_a_renamed_module_counts(package):
    before = code_digest(["toy.late"], root=package)
    (package / "late.py").rename(package / "later.py")
    assert code_digest(["toy.later"], root=package) != before


def test_excluded_modules_and_what_only_they_import(package):
    full = imported_modules(["toy.uses_report"], root=package)
    assert {"toy.report", "toy.report.page", "toy.other", "toy.agents.dqn", "toy.late"} <= set(full)
    assert imported_modules(["toy.uses_report"], exclude=["toy.report"], root=package) == [
        "toy",
        "toy.late",
        "toy.uses_report",
    ]
    before = code_digest(["toy.uses_report"], exclude=["toy.report"], root=package)
    change(package / "other.py", "x = 1", "x = 2")
    assert code_digest(["toy.uses_report"], exclude=["toy.report"], root=package) == before
    assert "toy.report" in imported_modules(["toy.uses_report"], exclude=["toy.rep"], root=package), "not by letters"


def test_order_and_duplicates_do_not_matter(package):
    assert code_digest(["toy.late", "toy.core"], root=package) == code_digest(
        ["toy.core", "toy.late", "toy.core"], root=package
    )


def test_a_wrong_name_is_told(package):
    with pytest.raises(RarlError, match=r"no module 'toy\.cor' in .*did you mean 'toy\.core'"):
        code_digest(["toy.cor"], root=package)


def test_a_syntax_error_is_one_line(package):
    (package / "late.py").write_text("def (:\n")
    with pytest.raises(RarlError, match=r"late\.py:1: not valid Python"):
        code_digest(["toy.late"], root=package)


def test_a_folder_of_the_same_name_above_the_package(tmp_path):
    root = tmp_path / "toy" / "toy"
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    assert "toy.settings" in imported_modules(["toy.agents.dqn"], root=root)


def test_the_digest_does_not_depend_on_where_the_package_lies(package, tmp_path):
    shutil.copytree(package, tmp_path / "elsewhere" / "toy")
    assert code_digest(["toy.other"], root=package) == code_digest(["toy.other"], root=tmp_path / "elsewhere" / "toy")


def test_the_digest_is_pinned_across_versions_of_python(package):
    """The same text in every Python: a clone with another one must not find everything out of date."""
    (package / "late.py").write_text(
        "@staticmethod\ndef f(a, /, b: int = 1, *c, d=2, **e) -> 'x':\n"
        "    with open(f'{a!r:>{b}} x' 'y', 'w') as g, g:\n        pass\n"
        "    match a:\n        case {'k': [1, *_]} if b: return -1\n"
        "    try:\n        x = [i async for i in c if (y := i)]\n"
        "    except* (OSError, ValueError) as z:\n        raise\n"
    )
    assert code_digest(["toy.late"], root=package) == "c06e277e04ea"


def test_the_real_package_is_fast_and_imports_nothing(request):
    code = (
        f"import sys, time; sys.path.insert(0, {str(request.config.rootpath)!r})\n"
        "from rarl.provenance import code_digest; t = time.process_time()\n"
        "d = code_digest(['rarl.training.loop']); t = time.process_time() - t\n"
        "assert not {'torch', 'numpy', 'rarl.training.loop'} & set(sys.modules)\n"
        "print(d, t)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    digest, seconds = done.stdout.split()
    assert digest == code_digest(["rarl.training.loop"])
    assert float(seconds) < 0.3
    assert "rarl.training.checkpoints" in imported_modules(["rarl.training.loop"])
    begun = time.perf_counter()
    code_digest(["rarl.training.loop"])
    assert time.perf_counter() - begun < 0.05, "files that did not change are read once per process"


# ------------------------------------------------------------------------------------------------------------- records


def git(folder, *arguments):
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path, package):
    git(tmp_path, "init")
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "a.csv").write_text("1\n")
    (tmp_path / "dvc.lock").write_text("1\n")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-m", "x")
    return tmp_path


def test_commit_and_cleanness(repository, package):
    state = git_state(package)
    assert len(state["commit"]) == 40
    assert state["dirty"] is False
    (repository / "results" / "a.csv").write_text("2\n")
    (repository / "results" / "new.csv").write_text("2\n")
    (repository / "dvc.lock").write_text("2\n")
    assert git_state(package)["dirty"] is False, "products do not make the code dirty"
    (package / "late.py").write_text("value = 2\n")
    assert git_state(package) == {"commit": state["commit"], "dirty": True}


def test_a_new_file_of_code_is_dirty(repository, package):
    (package / "new.py").write_text("")
    assert git_state(package)["dirty"] is True


def test_a_shallow_clone_knows_its_commit(repository, package, tmp_path_factory):
    clone = tmp_path_factory.mktemp("clone") / "c"
    subprocess.run(
        ["git", "clone", "--depth", "1", f"file://{repository}", str(clone)], check=True, capture_output=True
    )
    assert git_state(clone / "toy")["commit"] == git_state(package)["commit"]


UNKNOWN = {"commit": "unknown", "dirty": "unknown"}


def test_no_repository(package):
    assert git_state(package) == UNKNOWN


def test_no_git(repository, package, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert git_state(package) == UNKNOWN


def test_a_repository_without_commit(package, tmp_path):
    git(tmp_path, "init")
    git(tmp_path, "add", "-A")
    assert git_state(package) == UNKNOWN


def test_somebody_elses_repository_says_nothing(repository):
    installed = repository / ".venv" / "toy"
    installed.mkdir(parents=True)
    (installed / "__init__.py").write_text("")
    assert git_state(installed) == UNKNOWN


def test_a_record_is_whole(monkeypatch):
    record = provenance.run_record(threads=2)
    assert set(record) == {"command", "git", "versions", "hardware", "peak_memory_mb"}
    assert {"python", "rarl", "torch", "numpy"} <= set(record["versions"])
    assert record["hardware"]["threads"] == 2
    assert record["hardware"]["device"] == "cpu"
    assert record["hardware"]["gpu"] is None
    assert record["hardware"]["cores"] >= 1
    assert record["hardware"]["cpu"]
    assert 5 < record["peak_memory_mb"] < 1e6


@pytest.mark.parametrize(
    ("argv", "command"),
    [
        (["/somewhere/bin/rarl", "train", "--seed", "0"], "rarl train --seed 0"),
        ([str(provenance.PACKAGE / "__main__.py"), "train"], "python -m rarl train"),
        (["{here}/tools/x.py", "{here}/config/a b.yaml"], "python tools/x.py 'config/a b.yaml'"),
        ([""], "python"),
    ],
)
def test_the_command_can_be_pasted_and_names_no_folder_of_this_machine(monkeypatch, tmp_path, argv, command):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [part.format(here=tmp_path) for part in argv])
    assert provenance.command_line() == command
