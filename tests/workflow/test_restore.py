"""rarl.workflow.restore where DVC has lost a whole folder, listing included, as in a clone without a remote."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from dvc.repo import Repo

from rarl.config.scale import Scale
from rarl.errors import RarlError
from rarl.workflow.restore import restore

DATA, CHECKPOINTS = "data/tiny", "results/tiny/checkpoints"
CHECKPOINT = f"{CHECKPOINTS}/gridroboman/10-tasks/dqn/seed-0/notes.txt"


@pytest.fixture
def scale(own_root: Path, monkeypatch: pytest.MonkeyPatch) -> Scale:
    """A tiny project whose datasets and checkpoints DVC keeps in its cache; nothing of them is on disk."""
    monkeypatch.chdir(own_root)
    Path(CHECKPOINT).parent.mkdir(parents=True)
    Path(CHECKPOINT).write_text("networks")
    Repo.init(str(own_root), no_scm=True).add([DATA, CHECKPOINTS])
    shutil.rmtree(DATA)
    shutil.rmtree(CHECKPOINTS)
    return Scale("tiny")


def lose(text: str) -> None:
    """Remove the listing of a folder from the cache, by a name in it."""
    (listing,) = (path for path in Path(".dvc/cache/files").rglob("*.dir") if text in path.read_text())
    listing.unlink()


def test_a_lost_folder_hides_no_other(scale: Scale) -> None:
    lose("rewards.npy")
    done, left = restore(scale)
    assert done == [Path(CHECKPOINT)]
    assert left == [f"{DATA}: neither DVC's cache nor a remote has it"]
    Path(CHECKPOINT).unlink()
    assert restore(scale, [CHECKPOINTS]) == (done, [])


@pytest.mark.parametrize("path", ["data", f"{DATA}/gridroboman/planner/lift-red/rewards.npy"])
def test_of_a_lost_folder_nobody_knows_what_was_in_it(scale: Scale, path: str) -> None:
    lose("rewards.npy")
    assert restore(scale, [path]) == ([], [f"{DATA}: neither DVC's cache nor a remote has it"])
    with pytest.raises(RarlError, match=r"^nope: DVC has no record of it"):
        restore(scale, [path, "nope"])


def test_where_all_is_lost_what_is_asked_for_is_still_looked_at(scale: Scale) -> None:
    lose("rewards.npy")
    lose("notes.txt")
    assert [line.partition(":")[0] for line in restore(scale)[1]] == [DATA, CHECKPOINTS]
    manifest = Path(DATA, "gridroboman/planner/lift-red/manifest.json")
    manifest.parent.mkdir(parents=True)
    manifest.write_text("{")
    assert [line.partition(":")[0] for line in restore(scale)[1]] == [DATA, CHECKPOINTS, str(manifest)]
