"""Effects of changes of agents and of their training, and their forest plots."""

from __future__ import annotations

from types import SimpleNamespace

import pandas as pd
import pytest

from rarl.envs.spec import spec_of
from rarl.reporting import figures, forest
from rarl.reporting.claims import Rules
from rarl.reporting.effects import Change, Effect, judge
from rarl.reporting.results import load_results
from rarl.reporting.rules import Case, Judged, Verdict
from rarl.reporting.sheet import Sheet
from rarl.reporting.statistics import Interval, Samples
from tests.reporting import synthetic as project

RULES = Rules()
GAIN, PART = Change("gain", "Retrieval", "RA"), Change("part", "Without slots", "no slots")
SLOTS = Change("part", "More slots", "slots")


def test_effects_of_studies(studies):
    """Every change against what it changes, on the largest task set."""
    found = {(e.change.what, e.where): e for e in judge(studies["gridroboman"], Judged(RULES))}
    hidden = "Gridroboman, RA-DQN, task hidden"
    estimates = {what: e.interval.estimate for (what, where), e in found.items() if where == hidden}
    assert estimates == pytest.approx({
        "Retrieval": 0.40, "Nothing retrieved, same network (A-2)": -0.39, "Fixed retrieval batch per task": 0.08,
        "Retrieval batch of random tasks": -0.40,
    })  # fmt: skip
    assert found["Retrieval", "Gridroboman, RA-DQN, task observed"].interval.estimate == pytest.approx(0.22)
    lost = found["Nothing retrieved, same network (A-2)", hidden]
    assert lost.share == pytest.approx(0.39 / 0.40)
    assert lost.interval.high == pytest.approx(-0.39 + 0.02306, abs=1e-3)
    assert found["Retrieval", hidden].share is None
    of_babyai = {(e.change.what, e.where): e.interval.estimate for e in judge(studies["babyai"], Judged(RULES))}
    assert of_babyai["No bottleneck", "BabyAI, RA-RDQN, all levels"] == pytest.approx(-12)
    assert of_babyai["Nothing retrieved, same network (A-2)", "BabyAI, RA-RDQN, own level"] == pytest.approx(-9)
    assert [e.task_set for e in judge(studies["atari"], Judged(RULES))] == ["every"] * 2
    assert judge(studies["ablations-babyai"], Judged(RULES)) == []  # its agents are told of by the other experiment


def test_a_quantity_that_is_a_claim_has_its_verdict(studies):
    """Whichever side stands first; what no claim is about is corrected as one family."""
    study, judged = studies["gridroboman"], Judged(RULES)
    found = judge(study, Judged(RULES))
    gain = next(e for e in found if e.change.kind == "gain" and "hidden" in e.where)
    judged.put(Samples(gain.samples.b, gain.samples.a, bounds=study.bounds), Verdict("contradicted", reading="costs"))
    effects = {(e.change.what, e.where): e for e in judge(study, judged)}
    assert len(effects) == len(found)
    assert effects["Retrieval", gain.where].reading == "helps"
    removed = effects["Nothing retrieved, same network (A-2)", gain.where]
    p, adjusted = removed.verdict.tests["sign"]
    assert adjusted >= p
    alone = Judged(RULES)
    alone.add([Case(removed.samples, margin=0.05)])
    assert alone.of(removed.samples).tests["sign"] == (p, p)


def of(change: Change, low: float, high: float, environment: str = "gridroboman", page: str = "ablations") -> Effect:
    spec = spec_of(environment)
    study = SimpleNamespace(spec=spec, score=spec.score, page=page)
    m, d = spec.score.margin, (low + high) / 2
    inside = -m < low and high < m
    reading = "same" if inside else "costs" if high < 0 else "helps" if low > 0 else "open"
    interval, verdict = Interval(d, low, high, (5, 5)), Verdict("", "", reading)
    return Effect(study, change, spec.title, "30-tasks", Samples({}), interval, 0.5, verdict)


def test_a_forest_of_what_was_changed(tmp_path):
    """Counts of the studies that count, a figure for each environment, all effects as numbers."""
    project.write_project(tmp_path)
    sheet = Sheet(tmp_path, load_results("laptop", tmp_path), Judged(RULES), name="ablations")
    effects = [of(GAIN, 0.3, 0.5), of(PART, -0.4, -0.2), of(PART, -3.0, 2.0, "babyai"), of(SLOTS, -0.1, 0.1)]
    with figures.style():
        forest.write(sheet, [*effects, of(PART, 0.1, 0.2, page="beyond")])
    assert len(list((tmp_path / "figures").glob("forest-*.svg"))) == 2
    frame = pd.read_csv(tmp_path / "tables/effects.csv")
    assert frame["reading"].tolist() == ["helps", "costs", "same", "open", "helps"]
    assert forest.summary(effects[1:]) == ("3 ablations. Hurts: 1; equivalent within the margin: 1; inconclusive: 1.")
    rows = pd.read_csv(tmp_path / "tables/forest-gridroboman-1.csv")
    assert rows["change"].tolist() == [PART.what, SLOTS.what]


def test_the_second_axis_is_in_percent_of_the_gain():
    with figures.style():
        figure = forest.forest([of(PART, -0.4, -0.2), of(SLOTS, -0.1, 0.1)])
        figure.draw_without_rendering()
    axes, (above,) = figure.axes[0], figure.axes[0].child_axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [PART.short, SLOTS.short]  # sorted by estimate
    assert [end * 0.5 / 100 for end in above.get_xlim()] == pytest.approx(list(axes.get_xlim()))
