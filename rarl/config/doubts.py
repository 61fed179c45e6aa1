"""Settings that are allowed, and hardly meant."""

from __future__ import annotations

from rarl.config.settings import EPISODIC, RunSettings


def doubts_about(s: RunSettings) -> list[str]:
    """Why a run would end as it began, which nothing else would say."""
    found: list[str] = []
    period = s.learning.target_period_updates
    if s.agent.base in EPISODIC:
        return found
    if period is not None and period >= s.updates:
        found.append(
            f"learning.target_period_updates = {period}, updates = {s.updates}: the target network stays as it was "
            "drawn; set the first well below the second"
        )
    if s.online is not None:
        played = s.updates * s.online.steps_per_update * s.online.actors // s.online.period_steps
        if played <= s.least_sequences:
            found.append(
                f"updates = {s.updates}: about {played} sequences are played, and learning begins with "
                f"{s.least_sequences} (online.start_sequences, and what retrieval needs); nothing is learned"
            )
    return found
