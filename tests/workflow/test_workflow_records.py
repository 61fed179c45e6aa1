"""rarl.workflow.records: Snakemake's records, kept for each scale."""

from __future__ import annotations

import json
import os
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest

from rarl.errors import RarlError
from rarl.workflow.records import (
    file_of,
    has_params,
    inputs_of,
    is_outdated,
    load_records,
    plan_of,
    record_of,
    save_records,
)

LONG = f"results/small/runs/{'a' * 150}/{'b' * 150}/run.json"  # its record lies in a folder


def record_path(folder: Path, product: str) -> Path:
    """Where Snakemake keeps something of a product."""
    name = urlsafe_b64encode(product.encode()).decode()
    parts = [name[i : i + 254] for i in range(0, len(name), 254)]
    return folder / Path(*(f"@{part}" for part in parts[:-1]), parts[-1])


def record(root: Path, product: str, **content: object) -> Path:
    """A record as Snakemake writes it, and its product."""
    path = record_path(root / ".snakemake/metadata", product)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    (root / product).parent.mkdir(parents=True, exist_ok=True)
    (root / product).touch()
    return path


@pytest.fixture
def project(tmp_path: Path) -> Path:
    record(tmp_path, "data/small/a/manifest.json", params=["'abc'", "'def'"])
    record(tmp_path, LONG, input_checksums={"data/small/a/manifest.json": "sha256:12", "b": None})
    record(tmp_path, "data/large/a/manifest.json", params=["'large'"])
    record(tmp_path, "scratch/small/preview.html", params=[])
    return tmp_path


def test_what_snakemake_recorded_is_read(project: Path) -> None:
    assert has_params("data/small/a/manifest.json", ["abc"], project)
    assert not has_params("data/small/a/manifest.json", ["abc", "xyz"], project)
    assert not has_params("data/small/b/manifest.json", ["abc"], project)
    assert inputs_of(LONG, project) == {"data/small/a/manifest.json": "12"}
    assert inputs_of("data/small/b/manifest.json", project) == {}


def test_records_of_a_scale_travel_and_those_of_others_stay(
    project: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    record(project, "results/small/lost.csv").touch()
    (project / "results/small/lost.csv").unlink()
    path = save_records("small", project)
    assert path == file_of("small", project)
    assert set(json.loads(path.read_text())) == {"data/small/a/manifest.json", LONG}
    assert not load_records("small", project)

    clone = tmp_path_factory.mktemp("clone")
    own = record(clone, "data/large/a/manifest.json", params=["'own'"])
    stale = record(clone, "data/small/c/manifest.json", params=["'stale'"])
    file_of("small", clone).parent.mkdir(parents=True)
    file_of("small", clone).write_bytes(path.read_bytes())
    assert load_records("small", clone)
    assert record_of(LONG, clone) == record_of(LONG, project)
    assert not stale.exists()
    assert json.loads(own.read_text()) == {"params": ["'own'"]}
    # What Snakemake writes from now on is newer than the file and stays.
    record(clone, LONG, params=["'new'"])
    assert not load_records("small", clone)
    assert record_of(LONG, clone) == {"params": ["'new'"]}


def test_records_follow_what_is_checked_out(project: Path) -> None:
    first = save_records("small", project).read_bytes()
    record(project, LONG, params=["'second'"])
    second = save_records("small", project).read_bytes()
    assert first != second
    for content, expected in ((first, None), (second, ["'second'"]), (first, None)):
        file_of("small", project).write_bytes(content)
        assert load_records("small", project)
        assert record_of(LONG, project).get("params") == expected


def test_what_is_checked_out_is_not_what_an_interrupted_job_had_begun(project: Path) -> None:
    """Of another state of the project; of what is not there again, and of other scales, the mark stays."""
    saved = save_records("small", project).read_bytes()
    begun = project / ".snakemake/incomplete"
    marks = {name: record_path(begun, name) for name in (LONG, "data/small/gone.json", "data/large/a/manifest.json")}
    for mark in marks.values():
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
    assert not load_records("small", project)
    assert all(mark.exists() for mark in marks.values())
    record(project, LONG, params=["'second'"])
    save_records("small", project)
    file_of("small", project).write_bytes(saved)
    assert load_records("small", project)
    assert [name for name, mark in marks.items() if mark.exists()] == list(marks)[1:]


def test_saving_again_changes_nothing_until_snakemake_writes(project: Path) -> None:
    assert is_outdated("small", project)
    path = save_records("small", project)
    os.utime(path, (2e9, 2e9))
    assert not is_outdated("small", project)
    save_records("small", project)
    assert path.stat().st_mtime == 2e9
    os.utime(record(project, LONG, params=["'new'"]), (2.1e9, 2.1e9))
    assert is_outdated("small", project)
    record(project, "data/large/a/manifest.json")
    save_records("small", project)
    assert json.loads(path.read_text())[LONG] == {"params": ["'new'"]}


def test_a_damaged_file_of_records_is_told(project: Path) -> None:
    save_records("small", project).write_text("[1]")
    with pytest.raises(RarlError, match=r"provenance\.json: not the records of a workflow"):
        load_records("small", project)


def test_a_plan_is_newer_than_a_product_of_which_nobody_knows_how_it_was_made(tmp_path: Path) -> None:
    product = tmp_path / "results/small/costs.csv"
    product.parent.mkdir(parents=True)
    product.touch()
    plan = tmp_path / plan_of("results/small/costs.csv", {"digest": "1"}, "small", tmp_path)
    for _ in range(2):
        os.utime(plan, (1e9, 1e9))
        plan_of("results/small/costs.csv", {"digest": "1"}, "small", tmp_path)
        assert plan.stat().st_mtime > 1e9
    record(tmp_path, "results/small/costs.csv")
    os.utime(plan, (1e9, 1e9))
    plan_of("results/small/costs.csv", {"digest": "1"}, "small", tmp_path)
    assert plan.stat().st_mtime == 1e9
    plan_of("results/small/costs.csv", {"digest": "2"}, "small", tmp_path)
    assert json.loads(plan.read_text()) == {"digest": "2"}
