"""An experiment of a new environment, without a line of code in the report: curves, tables, gallery, effects."""

from __future__ import annotations

import pytest
import yaml

from rarl.config.files import ExperimentSettings
from rarl.reporting import results as reading
from tests.reporting import made_up
from tests.reporting import synthetic as made
from tests.reporting.built import build, table

SPEC = "tests.reporting.made_up:SPEC"
TASKS = made_up.SPEC.tasks


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Its report."""
    root = tmp_path_factory.mktemp("made-up")
    made.write_project(root)
    (root / "config/experiments/made-up.yaml").write_text(yaml.safe_dump(made_up.EXPERIMENT))
    found = {"made-up": ExperimentSettings(**made_up.EXPERIMENT).model_copy(update={"environment": SPEC})}
    raw = made.RAW["babyai"]
    names = []
    for task_set, tasks in (("2-tasks", TASKS[:2]), ("3-tasks", TASKS)):
        for variant, level in made_up.LEVELS.items():
            for seed in range(5):
                run = made.write_run(root, f"made-up/{task_set}/{variant}/seed-{seed}", level, tasks, raw=raw)
                record = root / f"results/laptop/runs/{run}/run.json"
                record.write_text(
                    record.read_text().replace('"environment": "gridroboman"', f'"environment": "{SPEC}"')
                )
                names.append(run)
    probed = [name for name in names if name.startswith("made-up/3-tasks/with-retrieval")]
    made.write_interventions(root, probed, made.same({"own": 0.60, "removed": 0.35}, TASKS), "babyai")
    made.write_attention(root, probed, [(task, "kl", 1.5) for task in TASKS])
    made.write_gallery(root, probed[2], made_up.gallery())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "read_experiments", lambda root: found)
        build(root)
    return root / "reports" / "laptop"


def test_scores_and_curves(folder):
    scores = table(folder, "made-up-scores", "task_set", "variant")
    row = scores.loc["3-tasks", "with-retrieval"]
    assert (row["score"], row["seeds"], row["tasks"]) == (pytest.approx(60), 5, 3)
    assert row["score_high"] == pytest.approx(60 + 100 * made.ALONE, abs=0.05)
    assert scores.loc["2-tasks", "plain"]["score"] == pytest.approx(30)
    curves = table(folder, "made-up-curves", "task_set", "variant", "seed", "update")
    assert curves.loc["3-tasks", "no-slots", 4, 1000]["score"] == pytest.approx(21)  # half of 42
    assert (folder / "figures/made-up-curves.svg").is_file()


def test_every_task(folder):
    rows = table(folder, "made-up-tasks", "task_set", "variant", "seed", "task")
    row = rows.loc["3-tasks", "plain", 0, "land"]
    assert (row["group"], row["score"]) == ("ground", pytest.approx(28))
    assert (folder / "figures/made-up-tasks.svg").is_file()


def test_an_ablation_is_one_entry_of_the_file(folder):
    rows = table(folder, "made-up-differences", "task_set", "variant")
    row = rows.loc["3-tasks", "no-slots"]
    assert (row["agent"], row["delta_base"], row["delta"]) == ("without slots", pytest.approx(10), pytest.approx(-20))
    assert (row["reference"], row["reading"]) == ("with-retrieval", "costs")
    assert "slots-4" not in rows.loc["3-tasks"].index  # of a sweep, which has a table of its own
    sweeps = table(folder, "made-up-sweeps", "task_set", "value")
    assert sweeps.loc["3-tasks", 1]["variant"] == "with-retrieval"
    assert (sweeps.loc["3-tasks", 4]["delta"], sweeps.loc["3-tasks", 4]["reading"]) == (pytest.approx(2), "open")


def test_interventions_attention_and_gallery(folder):
    rows = table(folder, "made-up-interventions", "variant", "intervention")
    assert rows.loc["with-retrieval", "removed"][["score", "delta"]].tolist() == pytest.approx([35, -25])
    assert table(folder, "made-up-attention", "quantity").loc["kl", "value"] == pytest.approx(1.5)
    assert (folder / "figures/made-up-step.svg").is_file()


def test_effects(folder):
    rows = table(folder, "made-up-effects", "change")
    assert rows.loc["Retrieval at all", "reading"] == "helps"
    assert rows.loc["No slots"][["reading", "share_of_gain"]].tolist() == ["costs", pytest.approx(20 / 30)]
    assert rows.loc["Number of slots: 4 instead of 1", "task_set"] == "3-tasks"
    assert set(rows["environment"]) == {"made-up"}


def test_its_page_and_the_overview(folder):
    assert {path.stem for path in folder.glob("*.md")} == {"README", "made-up", "claims", "method", "appendix"}
    assert "(made-up.md)" in (folder / "README.md").read_text()
