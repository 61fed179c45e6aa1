"""The report's own order: no environment's name in it, no circle of imports, no class name twice."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

import rarl.reporting
from rarl.envs.spec import ENVIRONMENTS, load, spec_of
from rarl.reporting.registry import CHECKS, MEASURES, PARTS, USUAL_PARTS

FOLDER = Path(rarl.reporting.__file__).parent
MODULES = sorted(FOLDER.rglob("*.py"))
# What only one environment has. Examples of names in documentation are not code.
NAMES = re.compile(rf"\b({'|'.join(ENVIRONMENTS)})\b|\b(boards?|levels?|games?)\b", re.IGNORECASE)
ALLOWED = {"level", "boards", "board"}  # of confidence, of a figure; pictures of states


def code_of(path: Path) -> ast.Module:
    """A module without its docstrings."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node, clean=False):
            node.body[0] = ast.Pass()
    return tree


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_no_module_of_the_report_names_an_environment(path):
    found = {match[0].lower() for match in NAMES.finditer(ast.unparse(code_of(path)))}
    assert found <= ALLOWED, path


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_no_module_of_the_report_imports_an_environment(environment):
    for path in MODULES:
        assert f"rarl.envs.{environment}" not in path.read_text(), path


def test_no_class_has_the_name_of_another():
    names = Counter(node.name for path in MODULES for node in ast.walk(code_of(path)) if isinstance(node, ast.ClassDef))
    assert [name for name, times in names.items() if times > 1] == []


def test_imports_go_one_way():
    """Also those for type checking alone; what is named in the registry is imported later."""
    imports = {}
    for path in MODULES:
        name = ".".join(("rarl", "reporting", *path.relative_to(FOLDER).with_suffix("").parts))
        nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
        imports[name] = {f"{node.module}.{alias.name}" for node in nodes for alias in node.names}
        imports[name] |= {node.module for node in nodes}
    known = set(imports)
    left = {name: found & known for name, found in imports.items()}
    while left:
        free = [name for name, needed in left.items() if not needed & set(left)]
        assert free, f"a circle among {sorted(left)}"
        for name in free:
            del left[name]


def test_all_that_is_registered_is_there():
    for name in (*PARTS.values(), *CHECKS.values(), *(function for function, _ in MEASURES.values())):
        assert callable(load(name))
    assert set(USUAL_PARTS) <= set(PARTS)


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_scores_are_data_of_environments(environment):
    spec = spec_of(environment)
    assert spec.title
    assert spec.score.margin > 0
    assert spec.score.column in ("return_mean", "success_rate")
    grouped = [task for tasks in spec.task_groups.values() for task in tasks]
    assert len(set(grouped)) == len(grouped)
    assert set(grouped) <= set(spec.tasks)
    assert load(spec.picture)
