"""Which code is followed from a module on, and what changes its digest."""

from __future__ import annotations

import ast
import importlib.metadata
import shutil
import subprocess
import sys

import pytest

from rarl import code_digest
from rarl.code_digest import code_of
from rarl.errors import RarlError

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


def digest_of(modules, **keywords):
    return code_of(modules, **keywords).digest


def modules_of(modules, **keywords):
    return sorted(name for name in code_of(modules, **keywords).modules if "/" not in name)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def package(tmp_path):
    root = tmp_path / "toy"
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_what_is_covered(package):
    assert modules_of(["toy.agents.dqn"], root=package) == [
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
    before = digest_of(["toy.agents.dqn"], root=package)
    change(package / file, old, new)
    assert digest_of(["toy.agents.dqn"], root=package) == before


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
    before = digest_of(["toy.agents.dqn"], root=package)
    change(package / file, old, new)
    assert digest_of(["toy.agents.dqn"], root=package) != before


def change(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1) if old else new)


def test_a_renamed_module_counts(package):
    before = digest_of(["toy.late"], root=package)
    (package / "late.py").rename(package / "later.py")
    assert digest_of(["toy.later"], root=package) != before


def test_modules_left_out_and_what_only_they_import(package):
    full = modules_of(["toy.uses_report"], root=package)
    assert {"toy.report", "toy.report.page", "toy.other", "toy.agents.dqn", "toy.late"} <= set(full)
    assert modules_of(["toy.uses_report"], leave_out=["toy.report"], root=package) == [
        "toy",
        "toy.late",
        "toy.uses_report",
    ]
    before = digest_of(["toy.uses_report"], leave_out=["toy.report"], root=package)
    change(package / "other.py", "x = 1", "x = 2")
    assert digest_of(["toy.uses_report"], leave_out=["toy.report"], root=package) == before
    assert "toy.report" in modules_of(["toy.uses_report"], leave_out=["toy.rep"], root=package), "not by letters"


def test_order_and_duplicates_do_not_matter(package):
    assert digest_of(["toy.late", "toy.core"], root=package) == digest_of(
        ["toy.core", "toy.late", "toy.core"], root=package
    )


def test_a_wrong_name_is_told(package):
    with pytest.raises(RarlError, match=r"no module 'toy\.cor' in .*did you mean 'toy\.core'"):
        digest_of(["toy.cor"], root=package)


def test_a_syntax_error_is_one_line(package):
    (package / "late.py").write_text("def (:\n")
    with pytest.raises(RarlError, match=r"late\.py:1: not valid Python"):
        digest_of(["toy.late"], root=package)


def test_a_folder_of_the_same_name_above_the_package(tmp_path):
    root = tmp_path / "toy" / "toy"
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    assert "toy.settings" in modules_of(["toy.agents.dqn"], root=root)


def test_the_digest_does_not_depend_on_where_the_package_lies(package, tmp_path):
    shutil.copytree(package, tmp_path / "elsewhere" / "toy")
    assert digest_of(["toy.other"], root=package) == digest_of(["toy.other"], root=tmp_path / "elsewhere" / "toy")


def test_the_digest_is_pinned_across_versions_of_python(package):
    """The same text in every Python: a clone with another one must not find everything out of date."""
    (package / "late.py").write_text(
        "@staticmethod\ndef f(a, /, b: int = 1, *c, d=2, **e) -> 'x':\n"
        "    with open(f'{a!r:>{b}} x' 'y', 'w') as g, g:\n        pass\n"
        "    match a:\n        case {'k': [1, *_]} if b: return -1\n"
        "    try:\n        x = [i async for i in c if (y := i)]\n"
        "    except* (OSError, ValueError) as z:\n        raise\n"
    )
    assert digest_of(["toy.late"], root=package) == "c06e277e04ea"


def test_nothing_is_imported(request):
    code = (
        f"import sys; sys.path.insert(0, {str(request.config.rootpath)!r})\n"
        "from rarl.code_digest import code_of\n"
        "print(code_of(['rarl.runs.loop']).digest)\n"
        "assert not {'torch', 'numpy', 'rarl.runs.loop'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == digest_of(["rarl.runs.loop"])
    assert "rarl.runs.checkpoints" in modules_of(["rarl.runs.loop"])


def test_files_that_did_not_change_are_read_once(package, monkeypatch):
    parsed = []
    parse = ast.parse
    monkeypatch.setattr(code_digest.ast, "parse", lambda *args, **keys: parsed.append(keys) or parse(*args, **keys))
    before = digest_of(["toy.other"], root=package)
    assert len(parsed) == 11
    assert digest_of(["toy.other"], root=package) == before
    assert len(parsed) == 11
    change(package / "late.py", "1", "22")
    assert digest_of(["toy.other"], root=package) != before
    assert len(parsed) == 12


def test_what_only_type_checkers_import_is_not_followed(package):
    (package / "core.py").write_text(
        "import typing\nfrom typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from toy.late import value\nelse:\n    from toy import registry\n"
        "if typing.TYPE_CHECKING:\n    import toy.settings\n"
    )
    assert modules_of(["toy.core"], root=package) == ["toy", "toy.core", "toy.registry"]


def test_a_file_of_data_that_is_named_counts(package):
    (package / "core.py").write_text('TABLE = "scores.csv"\nOTHER = "missing.csv"\n')
    (package / "scores.csv").write_text("pong,1\n")
    before = code_of(["toy.core"], root=package)
    assert "toy.core/scores.csv" in before.modules
    (package / "scores.csv").write_text("pong,2\n")
    assert code_of(["toy.core"], root=package).digest != before.digest


# --- somebody's own, and what is installed ----------------------------------------------------------------------------


OWN = {
    "an_env.py": """
import numpy as np
from rarl.errors import RarlError
import neighbour
SPEC = {"learner": "my_learner:Learner", "picture": "my drawings/board.py:draw"}
""",
    "neighbour.py": "from far.away import BOARD\n",
    "far/__init__.py": "",
    "far/away.py": "from . import close\nBOARD = 7\n",
    "far/close.py": "",
    "my_learner.py": "import torch\nclass Learner: pass\n",
    "my drawings/board.py": "import palette\ndef draw(): pass\n",
    "my drawings/palette.py": "RED = 1\n",
    "unrelated.py": "X = 1\n",
}


@pytest.fixture
def own(tmp_path):
    for name, text in OWN.items():
        path = tmp_path / "of mine" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "of mine"


def followed(code):
    return {name for name in code.modules if not name.startswith("rarl")}


def test_a_file_of_somebodys_own_is_followed_with_its_neighbours(own):
    code = code_of([f"{own}/an_env.py:SPEC"])
    assert followed(code) == {"an_env", "neighbour", "far", "far.away", "far.close", "my_learner", "board", "palette"}
    assert {"rarl.errors", "rarl"} <= set(code.modules)
    assert set(code.packages) == {"numpy", "torch"}


@pytest.mark.parametrize("file", [name for name in OWN if name not in ("unrelated.py", "far/__init__.py")])
def test_a_change_in_any_of_them_counts(own, file):
    before = code_of([f"{own}/an_env.py:SPEC"]).digest
    with (own / file).open("a") as opened:
        opened.write("ANOTHER = 1\n")
    assert code_of([f"{own}/an_env.py:SPEC"]).digest != before


def test_a_change_beside_them_does_not(own):
    before = code_of([f"{own}/an_env.py:SPEC"]).digest
    (own / "unrelated.py").write_text("X = 2\n")
    assert code_of([f"{own}/an_env.py:SPEC"]).digest == before


def test_a_module_on_the_path_that_nobody_installed_is_followed(own, package, monkeypatch):
    monkeypatch.syspath_prepend(str(own))
    code_digest._origin.cache_clear()
    assert {"an_env", "neighbour", "my_learner"} <= followed(code_of(["an_env:SPEC"]))
    (package / "late.py").write_text("import neighbour\n")
    assert "far.away" in code_of(["toy.late"], root=package).modules


def test_a_file_that_is_not_there_is_told():
    with pytest.raises(RarlError, match=r"nothing/an_env.py:SPEC: no such file"):
        code_of(["nothing/an_env.py:SPEC"])


def test_versions_of_what_is_imported_count(package, monkeypatch):
    (package / "late.py").write_text("def f():\n    import torch, yaml, ale_py, json\n    from PIL import Image\n")
    code_digest._version.cache_clear()
    before = code_of(["toy.late"], root=package)
    assert before.packages == {
        name: importlib.metadata.version(distribution).partition("+")[0]
        for name, distribution in {"torch": "torch", "yaml": "PyYAML", "ale_py": "ale-py", "PIL": "pillow"}.items()
    }
    real = importlib.metadata.version
    for version, same in (("9.9.9", False), (real("torch").partition("+")[0] + "+cu999", True)):
        code_digest._version.cache_clear()
        monkeypatch.setattr(importlib.metadata, "version", lambda n, v=version: v if n == "torch" else real(n))
        assert (code_of(["toy.late"], root=package).digest == before.digest) is same, version
    code_digest._version.cache_clear()


def test_what_is_chosen_by_name_counts(package):
    digests = {
        code_of(["toy.late"], root=package, uses=uses).digest
        for uses in (None, {"a.learners.value": "toy.late:f"}, {"a.learners.value": "toy.late:g"})
    }
    assert len(digests) == 3


def test_what_is_kept_of_a_source_changes_nothing(package, tmp_path, monkeypatch):
    """Another process finds it in the user's cache; what is damaged there, or cannot be kept, is worked out."""
    (package / "scores.csv").write_text("1")
    (package / "late.py").write_text("value = 'scores.csv', 'toy.core:area'\n")

    def found():
        code_digest._read_version.cache_clear()
        return code_of(["toy.other"], root=package)

    before = found()
    kept = list((tmp_path / "cache/rarl/code").glob("*"))
    assert len(kept) == len([name for name in before.modules if "/" not in name])
    assert {"toy.core", "toy.late/scores.csv"} < {*before.modules}
    with monkeypatch.context() as patch:
        patch.setattr(code_digest, "_parsed", None)
        assert found() == before
    for file in kept:
        file.write_text('["')
    assert found() == before
    (package / "late.py").write_text("value = 2\n")
    assert found().digest != before.digest
    assert sorted((tmp_path / "cache/rarl/code").glob("*")) == sorted(kept)  # one for each file, however it changes
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    (package / "late.py").write_text("value = 'scores.csv', 'toy.core:area'\n")
    assert found() == before
