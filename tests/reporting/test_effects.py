"""Effects of changes, and how the story sorts them by their verdicts: sentences flip when the numbers do."""

from __future__ import annotations

import re

import pandas as pd
import pytest

from rarl.envs.spec import spec_of
from rarl.reporting import figures, story
from rarl.reporting.claims import ReportedScale, Rules
from rarl.reporting.effects import Change, Effect, effect, judge, of_study
from rarl.reporting.results import load_results
from rarl.reporting.rules import READINGS, Case, Judged, Verdict
from rarl.reporting.sheet import Sheet
from rarl.reporting.statistics import Interval, Samples
from tests.reporting import synthetic as made_up

RULES = Rules(scales={"laptop": ReportedScale(banner="small")})
RETRIEVAL, PART = Change("gain", "Retrieval at all"), Change("part", "Without slots", "no slots")
REMOVED, REPAIR = Change("data", "Nothing to retrieve from", "nothing"), Change("repair", "An index", "index")


def made(study, change: Change, samples: Samples | None, gain: Samples | None = None) -> Effect | None:
    return effect(change, study, "30-tasks", samples, RULES, gain=gain)


def spread(mean: float) -> dict[int, float]:
    return {seed: mean + off for seed, off in enumerate((-0.02, -0.01, 0.0, 0.01, 0.02))}


def test_share_of_the_gain_by_hand(studies):
    study = studies["gridroboman"]
    gain = Samples(spread(0.5), spread(0.1))
    lost = made(study, PART, Samples(spread(0.2), spread(0.5)), gain)
    assert lost.share == pytest.approx(0.75)  # 0.3 of 0.4
    assert lost.interval.high == pytest.approx(-0.3 + 0.02306, abs=1e-3)  # t(0.975, 8) * 0.0158 * sqrt(2 / 5)
    assert made(study, RETRIEVAL, gain, gain).share is None
    # Where retrieval visibly adds nothing, a share of that says nothing.
    assert made(study, PART, Samples(spread(0.2), spread(0.5)), Samples(spread(0.1), spread(0.1))).share is None
    assert made(study, PART, None) is made(study, PART, Samples({}, {})) is None


def test_effects_of_studies(studies):
    """Every change against what it changes, on the largest task set; interventions on full agents; enough data."""
    found = {(e.change.what, e.where): e for e in of_study(studies["gridroboman"], RULES)}
    hidden = "Gridroboman, RA-DQN, task hidden"
    estimates = {what: e.interval.estimate for (what, where), e in found.items() if where == hidden}
    assert estimates == pytest.approx({
        "Retrieval at all": 0.40, "Nothing retrieved, slots kept (A-2)": -0.39,
        "One retrieval batch per task, never redrawn": 0.08, "Trained on batches of random tasks": -0.40,
        "Nothing to retrieve from when a trained agent acts": -0.40,
        "States exchanged between trajectories when a trained agent acts": -0.01,
        "Only other tasks' trajectories when a trained agent acts": -0.38,
        "Only 32 of 64 trajectories to retrieve from": -0.05,
        "Only 8 of 64 trajectories to retrieve from": -0.10,
        "Only 1 of 64 trajectories to retrieve from": -0.35,
        "Only the first 25 of 50 steps of each trajectory": -0.06,
        "Only the first 10 of 50 steps of each trajectory": -0.15,
    })  # fmt: skip
    assert found["Retrieval at all", "Gridroboman, RA-DQN, task observed"].interval.estimate == pytest.approx(0.22)
    assert found["Nothing retrieved, slots kept (A-2)", hidden].share == pytest.approx(0.39 / 0.40)
    of_babyai = {(e.change.what, e.where): e.interval.estimate for e in of_study(studies["babyai"], RULES)}
    assert of_babyai["No bottleneck", "BabyAI, RA-RDQN, all levels"] == pytest.approx(-12)
    assert of_babyai["Nothing retrieved, slots kept (A-2)", "BabyAI, RA-RDQN, own level"] == pytest.approx(-9)
    assert [e.task_set for e in of_study(studies["atari"], RULES)] == ["every"] * 3
    assert of_study(studies["ablations-babyai"], RULES) == []  # its agents are told of by the other experiment


def test_a_quantity_that_is_a_claim_has_its_verdict(studies):
    """Whichever side stands first; what no claim is about is corrected as one family."""
    study, judged = studies["gridroboman"], Judged(RULES)
    found = {(e.change.what, e.where): e for e in of_study(study, RULES)}
    gain = found["Retrieval at all", "Gridroboman, RA-DQN, task hidden"]
    swapped = Samples(gain.samples.b, gain.samples.a, bounds=study.bounds)
    judged.put(swapped, Verdict("contradicted", reading="costs"))
    effects = {(e.change.what, e.where): e for e in judge(study, judged)}
    assert len(effects) == len(found)
    assert effects["Retrieval at all", "Gridroboman, RA-DQN, task hidden"].reading == "helps"
    others = [e for e in effects.values() if e.samples is not gain.samples]
    removed = next(e for e in others if e.change.what.startswith("Nothing to retrieve"))
    p, adjusted = removed.verdict.tests["sign"]
    assert adjusted >= p
    alone = Judged(RULES)
    alone.add([Case(removed.samples, margin=0.05)])
    assert alone.of(removed.samples).tests["sign"] == (p, p)


def of(change: Change, low: float, high: float, environment: str = "gridroboman") -> Effect:
    spec = spec_of(environment)
    m, d = spec.score.margin, (low + high) / 2
    inside = -m < low and high < m
    reading = "same" if inside else "costs" if high < 0 else "helps" if low > 0 else "open"
    return Effect(
        change, spec.title, spec, "30-tasks", Samples({}), Interval(d, low, high, (5, 5)), 0.5, Verdict("", "", reading)
    )


def told(tmp_path, effects: list[Effect]) -> str:
    """The story's Markdown."""
    made_up.write_project(tmp_path)
    sheet = Sheet(tmp_path, load_results("laptop", tmp_path), RULES)
    with figures.style():
        story.write(sheet, effects)
    return str(sheet.markdown()).replace("\u00a0", " ").replace("&#91;", "[").replace("&#93;", "]")


def test_every_effect_stands_in_exactly_one_place():
    """Whatever its kind and reading: one group, or the folded part of what cannot be told."""
    for kind in ("gain", "part", "data", "repair"):
        for reading in READINGS:
            holding = [t for t, (kinds, readings) in story.GROUPS.items() if kind in kinds and reading in readings]
            told_at_once = reading not in ("open", "void") or kind == "gain"
            assert len(holding) == told_at_once, (kind, reading, holding)


def test_the_story_says_what_the_numbers_say(tmp_path):
    effects = [of(RETRIEVAL, 0.3, 0.5), of(PART, -0.4, -0.2), of(PART, -3.0, 2.0, "babyai"), of(REMOVED, -0.5, -0.3),
               of(REPAIR, 0.1, 0.3), of(Change("part", "More slots"), -0.1, 0.1)]  # fmt: skip
    text = told(tmp_path, effects)
    titles = ["What retrieval adds", "What matters: changed, it costs", "What makes no difference that counts",
              "What breaks it", "What repairs or improves it"]  # fmt: skip
    assert re.findall(r"^### (.*)$", text, re.MULTILINE) == titles
    parts = dict(zip(titles, re.split(r"^### .*$", text, flags=re.MULTILINE)[1:], strict=True))
    for title, what in zip(
        titles, ("Retrieval at all", "Without slots", "Without slots", "Nothing to", "An index"), strict=True
    ):
        assert what in parts[title]
    assert "BabyAI" not in parts["What matters: changed, it costs"]
    assert "−0.30 [−0.40, −0.20], 50 % of the gain" in parts["What matters: changed, it costs"]
    assert "More slots" in text.split("<details>")[1]
    frame = pd.read_csv(tmp_path / "tables/what-matters.csv")
    assert frame["reading"].tolist() == ["helps", "costs", "same", "costs", "helps", "open"]


def test_largest_effects_come_first_against_their_margin(tmp_path):
    effects = [
        of(PART, -0.2, -0.1),
        of(Change("part", "B"), -30.0, -20.0, "babyai"),
        of(Change("part", "C"), -0.5, -0.4),
    ]
    text = told(tmp_path, effects).split("### What matters: changed, it costs")[1]
    assert [line[4] for line in text.splitlines() if line.startswith("- ")] == ["C", "B", "W"]


def test_no_effects_no_story(tmp_path):
    assert told(tmp_path, []) == ""
