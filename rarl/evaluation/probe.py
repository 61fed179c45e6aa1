"""`rarl probe`: looks into a finished run and writes results/{scale}/probes/{run}/.

interventions.csv  intervention, task, given_task, episodes, return_mean[, success_rate]
attention.csv      task, quantity, value
gallery.json       episodes with what was retrieved at every step
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from rarl.config import Run, Scale
from rarl.files import check_folder_writable, csv_text, write_text

log = logging.getLogger(__name__)


def _probe_of(scale: Scale, run: Run):
    if run.settings.agent.retrieval.pool:
        from rarl.evaluation.relevance_probe import RelevanceProbe

        return RelevanceProbe(scale, run)
    if run.settings.environment == "gridroboman":
        from rarl.evaluation.board_probe import BoardProbe

        return BoardProbe(scale, run)
    if run.settings.environment == "babyai":
        from rarl.evaluation.level_probe import LevelProbe

        return LevelProbe(scale, run)
    from rarl.evaluation.game_probe import GameProbe

    return GameProbe(scale, run)


def _csv(rows: list[dict[str, Any]]) -> str:
    return csv_text([rows[0], *(row.values() for row in rows)])


def probe_run(scale: Scale, run: Run) -> Path:
    """All measurements of a run into results/{scale}/probes/{run}."""
    folder = scale.root / "results" / scale.name / "probes" / run.id
    check_folder_writable(folder)
    probe = _probe_of(scale, run)
    log.info("%s: interventions", run.id)
    write_text(folder / "interventions.csv", _csv(probe.interventions()))
    log.info("%s: attention", run.id)
    write_text(folder / "attention.csv", _csv(probe.attention()))
    log.info("%s: gallery", run.id)
    write_text(folder / "gallery.json", json.dumps(probe.gallery(), separators=(",", ":")) + "\n")
    return folder
