"""How an interval is read, and how the story sorts what was read: sentences flip when the numbers do."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from rarl.reporting import figures, story
from rarl.reporting.claims import Samples, Settings
from rarl.reporting.effects import OTHERS, REMOVED, RETRIEVAL, Change, Effect, effect, present, read
from rarl.reporting.results import load_results
from rarl.reporting.sheet import Sheet
from rarl.reporting.statistics import Interval
from rarl.reporting.texts import Scale
from tests.reporting import synthetic

SETTINGS = Settings(margins={"gridroboman": 0.05, "babyai": 5}, scales={"laptop": Scale("laptop", "small")})
PART = Change("part", "Without slots", "no slots")
REPAIR = Change("repair", "An index", "index")


def interval(low: float, high: float, n: tuple[int, ...] = (5, 5)) -> Interval:
    return Interval((low + high) / 2, low, high, n)


@pytest.mark.parametrize(
    ("low", "high", "reading"),
    [
        (-0.30, -0.20, "costs"),
        (-0.10, -0.04, "costs"),  # begins inside the margin
        (0.20, 0.30, "helps"),
        (-0.04, 0.03, "same"),
        (-0.04, -0.01, "same"),  # not 0, but too small to count
        (0.01, 0.04, "same"),
        (-0.06, 0.01, "open"),
        (-0.2, 0.2, "open"),
        (-0.05, 0.0, "open"),  # touches both
    ],
)
def test_reading_of_an_interval(low, high, reading):
    assert read(interval(low, high), 0.05, 5) == reading
    assert read(interval(low, high, (5, 4)), 0.05, 5) == "open"


def test_without_an_interval_nothing_can_be_told():
    assert read(Interval(-0.5, math.nan, math.nan, (1, 1)), 0.05, 1) == "open"


def made(change: Change, samples: Samples | None, gain: Samples | None = None) -> Effect | None:
    return effect(
        change, "Gridroboman", "gridroboman", "30-tasks", samples, SETTINGS, unit="of it", digits=3, gain=gain
    )


def spread(mean: float) -> dict[int, float]:
    return {seed: mean + off for seed, off in enumerate((-0.02, -0.01, 0.0, 0.01, 0.02))}


def test_share_of_the_gain_by_hand():
    gain = Samples(spread(0.5), spread(0.1))
    lost = made(PART, Samples(spread(0.2), spread(0.5)), gain)
    assert lost.share == pytest.approx(0.75)  # 0.3 of 0.4
    assert lost.interval.high == pytest.approx(-0.3 + 0.02306, abs=1e-5)  # t(0.975, 8) * 0.0158 * sqrt(2 / 5)
    assert made(RETRIEVAL, gain, gain).share is None
    # Where retrieval visibly adds nothing, a share of that says nothing.
    assert made(PART, Samples(spread(0.2), spread(0.5)), Samples(spread(0.1), spread(0.1))).share is None
    assert present([made(PART, None), made(PART, Samples({}, {})), lost]) == [lost]


def told(tmp_path, effects: list[Effect]) -> str:
    """The story's Markdown."""
    synthetic.write_project(tmp_path)
    sheet = Sheet(tmp_path, load_results("laptop", tmp_path), SETTINGS)
    with figures.style():
        story.write(sheet, effects)
    return str(sheet.markdown()).replace("\u00a0", " ").replace("&#91;", "[").replace("&#93;", "]")


def of(change: Change, low: float, high: float, environment: str = "gridroboman") -> Effect:
    where = {"gridroboman": "Gridroboman", "babyai": "BabyAI"}[environment]
    found = interval(low, high)
    digits = 3 if environment == "gridroboman" else 1
    reading = read(found, SETTINGS.margins[environment], 5)
    return Effect(change, where, environment, "30-tasks", found, "of it", digits, reading, 0.5)


def under(text: str, heading: str) -> str:
    """What stands below a heading of the story."""
    assert f"### {heading}\n" in text
    return text.split(f"### {heading}\n")[1].split("\n#")[0].split("<details>")[0]


def test_the_story_says_what_the_numbers_say(tmp_path):
    effects = [
        of(RETRIEVAL, 0.3, 0.5), of(PART, -0.4, -0.2), of(PART, -3.0, 2.0, "babyai"), of(REMOVED, -0.5, -0.3),
        of(OTHERS, -0.04, 0.02), of(REPAIR, 0.1, 0.3), of(Change("part", "More slots"), -0.1, 0.1),
    ]  # fmt: skip
    text = told(tmp_path, effects)
    assert "Of 6 changes tried, 2 cost, 1 helps, 2 make no visible difference, 1 cannot be told." in text
    assert "- **Retrieval at all.** Gridroboman +0.400 [+0.300, +0.500]." in under(text, "What retrieval adds")
    matters = under(text, "What matters: changed, it costs")
    assert "- **Without slots.** Gridroboman −0.300 [−0.400, −0.200], 50 % of the gain." in matters
    assert "BabyAI" not in matters
    same = under(text, "What makes no visible difference")
    assert "- **Without slots.** BabyAI −0.5 [−3.0, +2.0] points." in same
    assert REMOVED.what in under(text, "What breaks it")
    assert OTHERS.what in under(text, "What does not break it")
    assert "**An index.**" in under(text, "What repairs or improves it")
    folded = text.split("<details>")[1]
    assert "What cannot be told from these runs (1 comparison)" in folded
    assert "More slots" in folded
    assert "More slots" not in text.split("<details>")[0]


def test_the_story_flips_with_the_numbers(tmp_path):
    effects = [of(RETRIEVAL, -0.02, 0.02), of(PART, 0.2, 0.4), of(REMOVED, -0.02, 0.01), of(REPAIR, -0.3, -0.1)]
    text = told(tmp_path, effects)
    assert "### What retrieval adds\n" not in text
    assert "Retrieval at all" in under(text, "Where retrieval adds nothing visible, or costs")
    assert "No change of the agent that was tried costs" in under(text, "What matters: changed, it costs")
    assert "Without slots" in under(text, "What repairs or improves it")
    assert "An index" in under(text, "What breaks it")
    assert REMOVED.what in under(text, "What does not break it")


def test_every_effect_stands_in_exactly_one_place():
    """Whatever its kind and reading: one group, or the folded part of what cannot be told."""
    for change in (RETRIEVAL, PART, REMOVED, REPAIR):
        for reading in ("costs", "helps", "same", "open"):
            one = replace(of(change, -0.4, -0.2), reading=reading)
            holding = [group.title for group in story.GROUPS if group.holds(one)]
            shown = reading != "open" or change is RETRIEVAL
            assert len(holding) == shown, (change.kind, reading, holding)


def test_a_gain_that_cannot_be_told_is_not_hidden(tmp_path):
    text = told(tmp_path, [of(RETRIEVAL, 0.3, 0.5), of(RETRIEVAL, -3.0, 9.0, "babyai")])
    assert "Gridroboman" in under(text, "What retrieval adds")
    here = under(text, "Where it cannot be told whether retrieval adds anything")
    assert "- **Retrieval at all.** BabyAI +3.0 [−3.0, +9.0] points." in here
    assert "<details>" not in text


def test_largest_effects_come_first_against_their_margin(tmp_path):
    effects = [
        of(PART, -0.2, -0.1),
        of(Change("part", "B"), -30.0, -20.0, "babyai"),
        of(Change("part", "C"), -0.5, -0.4),
    ]
    text = under(told(tmp_path, effects), "What matters: changed, it costs")
    assert [line[4] for line in text.splitlines() if line.startswith("- ")] == ["C", "B", "W"]


def test_missing_runs_are_told(tmp_path):
    synthetic.write_project(tmp_path)
    for planned, said in (
        (["ablations/30-tasks/dqn/seed-0"], "1 of 1 planned run cannot be used or is not there"),
        ([], ""),
    ):
        sheet = Sheet(tmp_path, load_results("laptop", tmp_path, planned), SETTINGS)
        with figures.style():
            story.write(sheet, [of(PART, -0.4, -0.2)])
        assert ("some of this may change" in str(sheet.markdown())) == bool(said)
        assert said in str(sheet.markdown())


def test_no_effects_no_story(tmp_path):
    assert told(tmp_path, []) == ""
