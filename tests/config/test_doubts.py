"""Settings by which nothing would be learned."""

from __future__ import annotations

from pathlib import Path

import pytest

from rarl.config.doubts import doubts_about
from rarl.config.files import SCALES
from rarl.config.scale import Scale

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", SCALES)
def test_no_run_of_a_shipped_scale_is_doubtful(name: str) -> None:
    assert {run.id: doubts for run in Scale(name, ROOT).runs.values() if (doubts := doubts_about(run.settings))} == {}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"learning": {"target_period_updates": 960}}, ["target_period_updates = 960, updates = 960"]),
        ({"learning": {"target_period_updates": None, "target_rate": 0.01}}, []),
        ({"online": {"start_sequences": 10_000}, "updates": 400}, ["about 8000 sequences are played", "10000"]),
        ({"updates": 50}, ["target_period_updates = 50"]),
        (
            {"updates": 10},
            ["target_period_updates = 50", "about 200 sequences are played, and learning begins with 200"],
        ),
    ],
)
def test_what_would_not_learn_is_told(change: dict, said: list[str]) -> None:
    settings = Scale("laptop", ROOT).run("atari", "kung-fu-master", "r2d2", 1005, change).settings
    told = " ".join(doubts_about(settings))
    assert all(part in told for part in said)
    assert bool(told) == bool(said)
