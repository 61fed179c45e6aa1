"""Which changes of `rarl.config` change the digests of runs and datasets: those of every value that code can read."""

from __future__ import annotations

import ast
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from rarl.config import files, validate
from rarl.config import settings as of_runs
from rarl.config.scale import Dataset, Run, Scale, values_of
from rarl.config.settings import EXECUTION_ONLY, DatasetSettings, RunSettings
from rarl.config.validate import Settings
from rarl.envs.spec import ENVIRONMENTS
from rarl.workflow import rules as workflow

ROOT = Path(of_runs.__file__).resolve().parents[2]
MODULES = (of_runs, files, validate)
TREES = [ast.parse(Path(module.__file__).read_bytes()) for module in MODULES]


@pytest.fixture(scope="module")
def smoke() -> Scale:
    """The scale that runs every part."""
    return Scale("smoke", ROOT)


def test_a_value_counts_alike_whether_it_was_given_or_is_the_default(smoke: Scale) -> None:
    for run in smoke.runs.values():
        given = Run(run.scale, RunSettings.model_validate(run.settings.model_dump()))
        assert given.settings.model_fields_set > run.settings.model_fields_set
        assert given.digest == run.digest


def test_every_value_counts_but_those_without_effect(smoke: Scale) -> None:
    """So a changed default changes the digests of all runs that have it."""
    seen: dict[tuple[str, str], set[bool]] = {}
    for run in smoke.runs.values():
        for path, model in models_in(run.settings):
            for name in type(model).model_fields:
                if validate._models(type(model).model_fields[name].annotation):
                    continue  # whose values are looked at, or which is not there
                changed = Run(run.scale, replaced(run.settings, (*path, name)))
                seen.setdefault((type(model).__name__, name), set()).add(changed.digest != run.digest)
    # Which options there are is the environment's affair (`test_config`); here each has one more.
    without = {("RunSettings", name) for name, what in EXECUTION_ONLY.items() if what is True}
    without |= {("OnlineSettings", name) for name in EXECUTION_ONLY["online"]}
    assert {field for field, effects in seen.items() if effects == {False}} == without
    assert all(len(effects) == 1 for effects in seen.values())
    parts = {kind.__name__ for kind in reachable(RunSettings)}
    assert {kind for kind, _ in seen} == parts, "the smoke scale has every part"


def models_in(model: BaseModel, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], BaseModel]]:
    """A model and those in it, with their places."""
    yield path, model
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from models_in(value, (*path, name))


def reachable(kind: type[BaseModel]) -> set[type[BaseModel]]:
    found = {kind}
    for field in kind.model_fields.values():
        for inner in validate._models(field.annotation):
            found |= reachable(inner)
    return found


def replaced(model: Any, path: tuple[str, ...]) -> Any:
    """The same with another value in one place."""
    name, *rest = path
    value = getattr(model, name)
    if name == "environment":
        return model.model_copy(update={name: next(other for other in ENVIRONMENTS if other != value)})
    return model.model_copy(update={name: replaced(value, tuple(rest)) if rest else other_than(value)})


def other_than(value: Any) -> Any:
    if isinstance(value, list):
        return [*value, "another"]
    if isinstance(value, dict):
        return {**value, "another": 1}
    if isinstance(value, str):
        return value + "-another"
    return not value if isinstance(value, bool) else (value or 0) + 1


def test_every_value_of_a_dataset_counts(smoke: Scale) -> None:
    """Which tasks are made beside it does not."""
    (dataset, *_) = smoke.datasets.values()
    same = set()
    for name in DatasetSettings.model_fields:
        other = Dataset(dataset.environment, dataset.task, dataset.settings.model_copy(update={name: "bot"}))
        if other.digest == dataset.digest:
            same.add(name)
    assert same == {"tasks"}
    assert Dataset(dataset.environment, "another", dataset.settings).digest != dataset.digest


def test_costs_and_index_costs_know_every_value(smoke: Scale, monkeypatch: pytest.MonkeyPatch) -> None:
    for digest, place in (
        (workflow.cost_digest, ("costs", "seconds_per_variant")),
        (workflow.index_cost_digest, ("experiments", "relevance", "index_cost", "candidates")),
    ):
        before = digest(smoke)
        other = Scale("smoke", ROOT)
        holder = other.settings
        for name in place[:-1]:
            holder = holder[name] if isinstance(holder, dict) else getattr(holder, name)
        monkeypatch.setitem(holder.__dict__, place[-1], 77)
        assert digest(other) != before, place


# --------------------------------------------------------------------------------------------------- data, and no more


def functions(tree: ast.Module) -> dict[str, ast.FunctionDef]:
    return {
        f"{owner.name}.{node.name}" if isinstance(owner, ast.ClassDef) else node.name: node
        for owner in ast.walk(tree)
        if isinstance(owner, ast.Module | ast.ClassDef)
        for node in owner.body
        if isinstance(node, ast.FunctionDef)
    }


def decorators(node: ast.FunctionDef) -> set[str]:
    return {
        inner.id for decorator in node.decorator_list for inner in ast.walk(decorator) if isinstance(inner, ast.Name)
    }


# Plain data to settings, and messages; what a name is, and that a number is one.
READING = {"_models", "keys_of", "validate", "_meant", "_number_hint", "_is_name", "_check_numbers"}


def test_there_are_checks_and_derived_values_and_no_other_functions() -> None:
    for name, node in (item for tree in TREES for item in functions(tree).items()):
        if "property" in decorators(node) or name in READING:
            continue
        # What checks hands on what it was given, as it is.
        given = next(argument.arg for argument in node.args.args if argument.arg != "cls")
        returned = [inner.value for inner in ast.walk(node) if isinstance(inner, ast.Return)]
        assert returned, name
        assert all(isinstance(value, ast.Name) and value.id == given for value in returned), name


def changed_config(path: str) -> types.ModuleType:
    """`rarl.config.settings` with another body of one function, or another value of one constant."""
    tree = ast.parse(Path(of_runs.__file__).read_bytes())
    node = functions(tree).get(path)
    if node is not None:
        node.body = [ast.Return(ast.Constant("another"))]
    else:
        (assignment,) = (
            inner
            for inner in tree.body
            if isinstance(inner, ast.Assign) and getattr(inner.targets[0], "id", None) == path
        )
        assignment.value = ast.parse(f"another({ast.unparse(assignment.value)})", mode="eval").body
    module = types.ModuleType("rarl.config.settings_changed")
    module.__dict__.update(__file__=of_runs.__file__, another=another)
    sys.modules[module.__name__] = module  # where pydantic looks names up
    try:
        exec(compile(ast.fix_missing_locations(tree), of_runs.__file__, "exec"), module.__dict__)
    finally:
        del sys.modules[module.__name__]
    return module


def another(value: Any) -> Any:
    """The same with something more, or with the values exchanged."""
    if isinstance(value, tuple):
        return (*value, "dqn")
    keys, values = [*value], [*value.values()]
    return dict(zip(keys, [*values[1:], values[0]], strict=True))


PROPERTIES = [name for name, node in functions(TREES[0]).items() if "property" in decorators(node)]


@pytest.mark.parametrize("name", PROPERTIES)
def test_what_is_derived_from_values_counts(smoke: Scale, name: str) -> None:
    module = changed_config(name)
    kind = getattr(of_runs, name.partition(".")[0])
    parts = [run.settings for run in smoke.runs.values()] if kind is not DatasetSettings else []
    parts += [dataset.settings for dataset in smoke.datasets.values()]
    compared = 0
    for settings in parts:
        if any(isinstance(model, kind) for _, model in models_in(settings)):
            other = construct(module, settings)
            assert values_of(other) != values_of(settings)
            compared += 1
    assert compared > 10


def construct(module: types.ModuleType, settings: Settings) -> Any:
    """The same values in the classes of another version, unchecked."""
    values = {
        name: construct(module, value) if isinstance(value := getattr(settings, name), Settings) else value
        for name in type(settings).model_fields
    }
    return getattr(module, type(settings).__name__).model_construct(**values)


# Constants that decide a value; all others are types, or what checks hold values against.
DECIDING = ("EPISODIC",)
CHECKED_AGAINST = {"SCALES", "NOT_SCALES", "MOST", "_A_NAME", "TUNING_SEEDS", "EXECUTION_ONLY"}


@pytest.mark.parametrize("name", DECIDING)
def test_constants_that_decide_a_value_count(smoke: Scale, name: str) -> None:
    module = changed_config(name)
    parts = [*smoke.runs.values(), *smoke.datasets.values()]
    changed = [values_of(construct(module, part.settings)) != values_of(part.settings) for part in parts]
    assert any(changed)
    assert not all(changed)


def test_no_constant_is_forgotten() -> None:
    names = {node.targets[0].id for tree in TREES for node in tree.body if isinstance(node, ast.Assign)}
    constants = {name for name in names if name.isupper()}
    assert constants == {*DECIDING, *CHECKED_AGAINST}
    used = {
        inner.id
        for tree in TREES
        for name, node in functions(tree).items()
        if "property" in decorators(node)
        for inner in ast.walk(node)
        if isinstance(inner, ast.Name)
    }
    assert used & constants == set(DECIDING), "what properties read"
