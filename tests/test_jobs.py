"""What the digest of a job's code covers: all that decides its products, and nothing of another environment."""

from __future__ import annotations

import ast
import copy
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import BaseModel

from rarl import code_digest, jobs
from rarl.code_digest import PACKAGE, code_of
from rarl.config.scale import Dataset, Scale, index_cost_plan
from rarl.config.settings import EPISODIC, DatasetSettings
from rarl.envs.common import LEARNERS
from rarl.envs.spec import COMMON, ENVIRONMENTS, EnvSpec, Source, load, sources_of, spec_of
from rarl.errors import RarlError
from rarl.jobs import DATA, KINDS, NOT_COMPUTING, Job, LoadedCode
from rarl.mappings import merge
from tests import tiny, tiny_atari, tiny_babyai, tiny_project, tiny_relevance

ROOT = PACKAGE.parent
BY_NAME = {"rarl.envs", "rarl.envs.spec"}  # what they import is named by specifications


@pytest.fixture(scope="module")
def smoke() -> Scale:
    """The scale that runs every part."""
    return Scale("smoke", ROOT)


@pytest.fixture(scope="module")
def all_jobs(smoke: Scale) -> dict[Job, str]:
    """Every job of the scale that has code of its own -> the environment that it is of, or ""."""
    found = {jobs.dataset_job(dataset): package_of(dataset.environment) for dataset in smoke.datasets.values()}
    for environment in ENVIRONMENTS:
        spec = spec_of(environment)
        for name in set(sources_of(spec)) & set(COMMON):
            dataset = Dataset(environment, spec.tasks[0], DatasetSettings(source=name))
            found[jobs.dataset_job(dataset)] = environment
    for run in smoke.runs.values():
        found[jobs.train_job(run)] = package_of(run.settings.environment)
        if run.settings.agent.base not in EPISODIC:
            found[jobs.probe_job(run)] = package_of(run.settings.environment)
    costs = [jobs.costs_job(scale) for scale in (smoke, Scale("laptop", ROOT))]  # smoke does not measure all
    of_all = [*costs, jobs.index_cost_job(index_cost_plan(smoke)[1]), jobs.report_job(smoke)]
    return found | dict.fromkeys(of_all, "")


def name_of(job: Job) -> str:
    return f"{job.kind} {dict(job.uses)}"


# ---------------------------------------------------------------------------------------------------- whose code it is


def package_of(environment: str) -> str:
    """babyai, of babyai and of rarl.envs.babyai.go_to:SPEC."""
    return environment.removeprefix("rarl.envs.").partition(".")[0]


def test_every_kind_of_job_is_looked_at(all_jobs: dict[Job, str]) -> None:
    assert {job.kind for job in all_jobs} == set(KINDS)
    assert {name for name in all_jobs.values() if name} == set(ENVIRONMENTS)
    named = {name for job in all_jobs for name in dict(job.uses).values() if ":" in name}
    assert set(LEARNERS.values()) <= named
    for environment in ENVIRONMENTS:
        spec = spec_of(environment)
        fields = [*(source.make for source in sources_of(spec).values()), spec.probing]
        fields += [spec.tokens, spec.make_vector, spec.content, spec.codec, spec.success]
        assert {name for name in fields if name is not None} <= named, "the smoke scale runs every part"


def test_what_generic_modules_import_belongs_to_no_environment() -> None:
    for kind in ("dataset", "train", "probe"):
        entries, leave_out = KINDS[kind]
        own = [name for name in code_of(entries, leave_out=leave_out).modules if is_of_an_environment(name)]
        assert own == [], kind


def is_of_an_environment(module: str, environments: tuple[str, ...] = ENVIRONMENTS) -> bool:
    return any(f"{module}.".startswith(f"rarl.envs.{name}.") for name in environments)


def test_a_job_has_nothing_of_another_environment(all_jobs: dict[Job, str]) -> None:
    """Neither of its package, nor what imports that."""
    packages = {name: set() for name in ENVIRONMENTS}
    for job, environment in all_jobs.items():
        modules = job.code().modules
        for module in modules if environment else ():
            others = tuple(name for name in ENVIRONMENTS if name != environment)
            assert not is_of_an_environment(module, others), name_of(job)
            if is_of_an_environment(module):
                packages[environment].add(module)
    assert all(packages.values())


def test_names_of_specifications_can_be_loaded_and_are_unique() -> None:
    """An encoder is found by its name alone."""
    encoders = [name for environment in ENVIRONMENTS for name in spec_of(environment).encoders]
    assert len(set(encoders)) == len(encoders)
    for environment in ENVIRONMENTS:
        for name in texts(spec_of(environment)):
            if ":" in name:
                assert load(name) is not None


@pytest.mark.parametrize("folder", ["plain", "with a space", "~1+2"])
@pytest.mark.parametrize("field", ["environment", "values"])
def test_a_file_of_somebodys_own_is_followed_whatever_its_folder_is_called(
    tmp_path: Path, folder: str, field: str
) -> None:
    file = tmp_path / folder / "some_env.py"
    file.parent.mkdir()
    file.write_text("SPEC = 1\n")
    job = Job("dataset", ((field, f"{file}:SPEC"),))
    before = job.code()
    assert "some_env" in before.modules
    file.write_text("SPEC = 22\n")
    assert job.code().digest != before.digest


def texts(value: object) -> Iterator[str]:
    if isinstance(value, EnvSpec | Source):
        value = {name: getattr(value, name) for name in value.__dataclass_fields__}
    if isinstance(value, dict):
        for inner in value.values():
            yield from texts(inner)
    elif isinstance(value, tuple):
        for inner in value:
            yield from texts(inner)
    elif isinstance(value, str):
        yield value


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("gridroboan", "unknown environment 'gridroboan'; did you mean 'gridroboman'"),
        ("nothing.there:SPEC", "nothing.there:SPEC: no module 'nothing'"),
        ("rarl.errors:SPEC", "rarl.errors:SPEC: must read module:attribute"),
        ("nothing/there.py:SPEC", "nothing/there.py:SPEC: no such file"),
    ],
)
def test_an_environment_that_is_not_there_is_told(name: str, told: str) -> None:
    with pytest.raises(RarlError) as error:
        spec_of(name)
    assert told in str(error.value)


def test_an_environment_of_somebodys_own_is_found_by_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "my_neighbour_of_spec.py").write_text('TASKS = ("walk", "run")\n')
    (tmp_path / "my_own_spec.py").write_text(
        'from my_neighbour_of_spec import TASKS\nfrom rarl.envs.spec import EnvSpec\nSPEC = EnvSpec("mine", TASKS)\n'
    )
    assert spec_of(f"{tmp_path}/my_own_spec.py:SPEC").tasks == ("walk", "run")


# ---------------------------------------------------------------------------------------- every change, looked at all


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package."""
    folder = tmp_path_factory.mktemp("copy") / "rarl"
    shutil.copytree(PACKAGE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def file_of(module: str, package: Path = PACKAGE) -> Path:
    path = package.joinpath(*module.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@pytest.mark.slow
def test_a_change_in_a_file_reaches_the_jobs_that_import_it_and_no_others(
    all_jobs: dict[Job, str], package: Path
) -> None:
    before = {job: job.code(package) for job in all_jobs}
    modules = set().union(*(code.modules for code in before.values()))
    assert len(modules) > 120
    for module in sorted(modules):
        name, _, data = module.partition("/")
        file = file_of(name, package)
        file = file.with_name(data) if data else file
        text = file.read_bytes()
        file.write_bytes(text + b"\nANOTHER = 1\n")
        changed = {job for job, code in before.items() if job.code(package).digest != code.digest}
        file.write_bytes(text)
        assert {*map(name_of, changed)} == {name_of(job) for job, code in before.items() if module in code.modules}


def test_every_constant_and_every_function_counts(all_jobs: dict[Job, str]) -> None:
    codes = {job: job.code() for job in all_jobs}
    modules = {name for code in codes.values() for name in code.modules if "/" not in name}
    subsample = 0
    for name in sorted(modules):
        tree = ast.parse(file_of(name).read_bytes())
        for item, (path, changed) in enumerate(changes(tree)):
            digest = digest_of_tree(changed, name)
            for job, code in codes.items():
                now = replace(code, modules={**code.modules, **({name: digest} if name in code.modules else {})})
                assert (now.digest != code.digest) is (name in code.modules), (name, path, item, name_of(job))
            subsample += 1
    assert subsample > 1000


def changes(tree: ast.Module) -> Iterator[tuple[str, ast.Module]]:
    """The module with one constant or one function changed, each in turn; the tree itself is as before in the end."""
    for path, body, i in places(tree, ""):
        node = body[i]
        other = copy.copy(node)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            other.body = [*node.body, ast.Expr(ast.Call(ast.Name("another"), [], []))]
        elif is_version(node):
            continue
        else:
            other.value = ast.Tuple([node.value, ast.Constant("another")])
        body[i] = other
        yield path, tree
        body[i] = node


def places(node: ast.AST, path: str) -> Iterator[tuple[str, list, int]]:
    """Where constants of modules and classes are, and functions, in functions too: (name, statements, place)."""
    for _, value in ast.iter_fields(node):
        statements = value if isinstance(value, list) else []
        for i, inner in enumerate(statements):
            if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{path}.{inner.name}", statements, i
                yield from places(inner, f"{path}.{inner.name}")
            elif isinstance(inner, ast.ClassDef):
                yield from places(inner, f"{path}.{inner.name}")
            elif isinstance(inner, ast.Assign | ast.AnnAssign | ast.AugAssign):
                if isinstance(node, ast.Module | ast.ClassDef) and inner.value is not None:
                    yield f"{path}.{inner.lineno}", statements, i
            elif isinstance(inner, ast.stmt | ast.ExceptHandler):
                yield from places(inner, path)


def is_version(node: ast.AST) -> bool:
    return isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__version__"


def digest_of_tree(tree: ast.Module, name: str) -> str:
    walk = code_digest._Walk([], name.partition(".")[0])
    walk.node(tree)
    return code_digest._digest(walk)


# --------------------------------------------------------------------------------------------- what may stay out of it


def test_what_stays_out_is_short_and_has_a_reason() -> None:
    left_out = {name for kind in KINDS.values() for name in kind.leave_out}
    assert left_out == {*DATA, *NOT_COMPUTING}
    assert len(left_out) <= 5
    for name in left_out:
        assert file_of(name).is_file()


def test_of_configuration_and_plans_code_takes_types_alone(all_jobs: dict[Job, str]) -> None:
    """Settings, runs and scales are handed in. A module that made some itself would depend on defaults."""
    jobs_without = [job for job in all_jobs if set(DATA) <= set(KINDS[job.kind].leave_out)]
    modules = {name for job in jobs_without for name in job.code().modules if "/" not in name}
    seen = 0
    for module in modules:
        tree = ast.parse(file_of(module).read_bytes())
        taken = names_from(tree, tuple(DATA))
        seen += len(taken)
        used = {node.id for node in evaluated(tree) if isinstance(node, ast.Name)}
        # Of what the cost of an index is measured is in its digest; who plays for a dataset is in that of the job.
        assert not taken & used - {"index_cost_plan", "run_of", "check_agent"}, module
    assert seen > 40


def test_the_settings_of_who_plays_for_a_dataset_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are given, those that the generator gives, and all others by default."""
    from rarl.config import player as play

    def digest(source: str, environment: str = "gridroboman", **options: object) -> str:
        dataset = Dataset(environment, spec_of(environment).tasks[0], DatasetSettings(source=source, options=options))
        return jobs.dataset_job(dataset).code().digest

    before = digest("agent"), digest("random"), digest("random", "atari")
    assert digest("agent", settings={}) == before[0]
    assert digest("agent", settings={"learning": {"discount": 0.5}}) != before[0]
    with monkeypatch.context() as patch:
        patch.setattr(play, "AGENT", merge(play.AGENT, {"learning": {"discount": 0.5}}))
        assert digest("agent") != before[0]
    validate = play.validate
    for place, value, others in (
        (("learning", "adam_epsilon"), 0.5, [True, True, True]),
        (("environment_options", "sticky"), 0.5, [False, False, True]),
        (("environment_options", "emulator_threads"), 7, [False, False, False]),  # changes nothing that comes out
    ):
        with monkeypatch.context() as patch:  # as with another default
            patch.setattr(play, "validate", lambda *a, place=place, value=value: replaced(validate(*a), place, value))
            now = digest("agent"), digest("random"), digest("random", "atari")
        assert [one != other for one, other in zip(now, before, strict=True)] == others, place
    assert (digest("agent"), digest("random"), digest("random", "atari")) == before


def replaced(settings: BaseModel, place: tuple[str, str], value: object) -> BaseModel:
    """Settings with another value in one of their parts, where it has one."""
    part, name = place
    inner = getattr(settings, part)
    if isinstance(inner, dict):
        return settings.model_copy(update={part: {**inner, **({name: value} if name in inner else {})}})
    return settings.model_copy(update={part: inner.model_copy(update={name: value})})


def names_from(tree: ast.Module, modules: tuple[str, ...]) -> set[str]:
    return {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(modules)
        for alias in node.names
    }


def evaluated(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those of annotations, which `from __future__ import annotations` leaves as text."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns"):
            continue
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, ast.AST):
                yield inner
                yield from evaluated(inner)


# ------------------------------------------------------------------------------------------- what is really imported


PROJECTS = {"gridroboman": tiny_project, "babyai": tiny_babyai, "atari": tiny_atari}
SHORT = {
    "gridroboman": {},
    "babyai": {"updates": 2, "evaluation": {"every_updates": 2, "episodes_per_task": 1}},
    "atari": {
        "updates": 8,
        "evaluation": {"every_updates": 8, "episodes_per_task": 1},
        "environment_options": {"max_frames": 60, "noop_max": 0},
        "online": {"start_sequences": 1},
    },
}
# Variants whose costs are measured, the one with an index for its own costs too.
SLOTS = {"agent": {"retrieval": {"process": "slots"}}}
FEW = {
    "gridroboman": {
        "dqn": {},
        "index": merge(tiny_relevance.changes("exact"), {"agent": {"retrieval": {"process": "slots"}}}),
    },
    "babyai": {"own": {}},
    "atari": {"ra-r2d2": {}},
}


@pytest.mark.slow
def test_nothing_is_imported_by_a_job_that_its_digest_does_not_cover(tmp_path: Path) -> None:
    """Each kind of job at work: what its modules import, in functions too, and what it takes from specifications."""
    for environment, project in PROJECTS.items():
        variants = FEW[environment]
        task_set = next(iter(project.SCALE["experiments"][environment]["task_sets"]))
        at_scale = {"settings": SHORT[environment], "task_sets": {task_set: {"variants": [*variants], "probes": []}}}
        if "index" in variants:
            at_scale |= {"index_cost": {"states": [100], "kinds": ["exact"]}}
        project.write_config(
            tmp_path / environment, {"experiments": {environment: at_scale}}, {"variants": tiny.variants(**variants)}
        )
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("imports_of_jobs.py"), tmp_path],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert {name.split()[0] for name in found["jobs"]} == set(KINDS) - {"report"}
    imports = {(by, of) for by, of in found["imports"] if by.startswith("rarl.") and of.startswith("rarl.")}
    assert len(imports) > 300
    for name, job in found["jobs"].items():
        kind = KINDS[name.split()[0]]
        modules = {module for module in job["modules"] if "/" not in module}
        missing = {
            (by, of)
            for by, of in imports
            if by in modules - BY_NAME and of not in modules and not code_digest._is_below(of, kind.leave_out)
        }
        assert missing == set(), name
        taken = {tuple(field.split(".")[:2]) for field in job["uses"]}
        # An encoder is found by its name, which is in the digest. The places of tasks, by which evaluations start, are
        # told by the modules that make environments of them. Versions are recorded, no more.
        apart = ("encoders", "tasks", "requires")
        assert {tuple(read) for read in job["read"] if read[1] not in apart} <= taken, name
        if any(read[1] == "tasks" for read in job["read"]):
            assert modules & {f"rarl.envs.{part}" for part in ("gridroboman.tasks", "babyai.levels", "atari.games")}
        assert {loaded for loaded in job["loaded"] if loaded.partition(":")[0] not in modules} == set(), name


# ----------------------------------------------------------------------------- the code that a process computes with


@pytest.fixture
def edited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the package that digests are made of, to be changed while this process has loaded the real one."""
    folder = tmp_path / "copy" / "rarl"
    shutil.copytree(PACKAGE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(Job.code, "__defaults__", (folder,))
    return folder


def job_of(smoke: Scale) -> Job:
    return jobs.dataset_job(smoke.find_dataset("gridroboman/planner/lift-red"))


def append(file: Path, text: str) -> None:
    with file.open("a") as opened:
        opened.write(text)


def test_other_code_than_was_planned_is_refused(smoke: Scale, edited: Path) -> None:
    job = job_of(smoke)
    planned = job.code().digest
    assert LoadedCode(job, planned).code.digest == planned
    append(edited / "envs" / "gridroboman" / "datasets.py", "ANOTHER = 1\n")
    with pytest.raises(
        RarlError, match=rf"code of this job \(dataset\) has digest .{{12}}, the caller expected {planned}"
    ):
        LoadedCode(job, planned)
    LoadedCode(job)


def test_a_change_while_a_job_works_is_told_with_what_changed(smoke: Scale, edited: Path) -> None:
    loaded = LoadedCode(job_of(smoke))
    append(edited / "learners" / "online.py", "ANOTHER = 1\n")
    append(edited / "envs" / "gridroboman" / "datasets.py", "# a remark\n")
    loaded.check()
    append(edited / "envs" / "gridroboman" / "datasets.py", "ANOTHER = 1\n")
    append(edited / "files.py", "ANOTHER = 1\n")
    with pytest.raises(
        RarlError, match=r"changed while it worked: rarl\.envs\.gridroboman\.datasets, rarl\.files; undo"
    ):
        loaded.check()


@pytest.mark.parametrize("source", ["planner", "dqn", "bot", "rdqn"])
def test_a_dataset_is_not_published_if_its_code_changed_meanwhile(
    smoke: Scale, edited: Path, tmp_path: Path, source: str
) -> None:
    from rarl.collect.make import make_dataset

    scale = copy.copy(smoke)
    scale.root = tmp_path
    planned = next(dataset for dataset in smoke.datasets.values() if dataset.settings.source == source)
    unit = sources_of(spec_of(planned.environment))[source].unit
    size = {unit: {"episodes": 5, "environment_steps": 150}[unit]}
    dataset = Dataset(planned.environment, planned.task, planned.settings.model_copy(update=size))
    loaded = LoadedCode(jobs.dataset_job(dataset))
    append(edited / "trajectories" / "store.py", "ANOTHER = 1\n")
    with pytest.raises(RarlError, match="changed while it worked"):
        make_dataset(scale, dataset, loaded)
    assert list((tmp_path / "data").rglob("*.*")) == []


def test_a_run_is_not_published_but_kept_if_its_code_changed_meanwhile(own_root: Path, edited: Path) -> None:
    from rarl.runs.train import train_run

    scale = Scale("tiny", own_root)
    run = scale.find_run("gridroboman/10-tasks/dqn/seed-0")
    loaded = LoadedCode(jobs.train_job(run))
    loop = edited / "runs" / "loop.py"
    before = loop.read_text()
    append(loop, "ANOTHER = 1\n")
    with pytest.raises(RarlError, match=r"changed while it worked: rarl\.runs\.loop; undo"):
        train_run(scale, run, device="cpu", code=loaded)
    assert not (own_root / "results").exists()
    loop.write_text(before)
    record = train_run(scale, run, device="cpu")
    assert (record["status"], record["resumed"], record["code_digest"]) == ("finished", 1, loaded.code.digest)


def test_a_probe_is_not_published_if_its_code_changed_meanwhile(own_root: Path, edited: Path) -> None:
    from rarl.probes.probe import probe_run
    from rarl.runs.train import train_run

    scale = Scale("tiny", own_root)
    run = scale.find_run("gridroboman/10-tasks/ra-dqn/seed-0")
    train_run(scale, run, device="cpu")
    loaded = LoadedCode(jobs.probe_job(run))
    append(edited / "probes" / "plain.py", "ANOTHER = 1\n")
    with pytest.raises(RarlError, match=r"changed while it worked: rarl\.probes\.plain"):
        probe_run(scale, run, loaded)
    assert not (own_root / "results" / "tiny" / "probes").exists()
