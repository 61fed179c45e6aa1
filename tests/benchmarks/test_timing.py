"""Work that takes turns: how much of it is done, and how its time is computed."""

from __future__ import annotations

import pytest

from rarl.benchmarks import timing
from rarl.benchmarks.timing import Work


def test_what_is_done_now_and_then_counts_as_often_as_it_is_done():
    work = Work(lambda: None, phases=3)
    work.per_round = [[0.1, 0.1, 0.4], [0.1, 0.1, 0.4], [0.9, 0.1, 0.5]]
    assert work.milliseconds(period=10) == pytest.approx(100 + 300 / 10)
    assert work.milliseconds(period=3) == pytest.approx(600 / 3)  # the mean: it is done as often as it was measured
    plain = Work(lambda: None)
    plain.per_round = [[0.2], [0.3], [7.0]]
    assert plain.milliseconds() == pytest.approx(300)


@pytest.mark.parametrize(("seconds", "cycles"), [(0.05, 1), (1.1, 1), (1.25, 2), (1.9, 3)])
def test_a_turn_has_as_many_whole_cycles_as_there_is_time_for_and_one_at_least(monkeypatch, seconds, cycles):
    now, calls = 0.0, 0

    def call():
        nonlocal now, calls
        now += 0.1 * (1 + calls % 3)  # 0.1, 0.2 and 0.3 seconds in turn
        calls += 1

    monkeypatch.setattr(timing.time, "perf_counter", lambda: now)
    work = Work(call, phases=3, seconds=2 * seconds, clock=lambda: now)
    work.turn(rounds=2)
    assert calls == 3 * cycles
    assert work.per_round == [pytest.approx([0.1, 0.2, 0.3])]
