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

from rarl.config.scale import Run, Scale
from rarl.envs.common import PROBES
from rarl.envs.spec import load, probe_kind
from rarl.files import check_folder_writable, csv_text, write_text
from rarl.jobs import LoadedCode, probe_job

log = logging.getLogger(__name__)


def _csv(rows: list[dict[str, Any]]) -> str:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return csv_text([columns, *([row.get(name, "") for name in columns] for row in rows)])


def probe_run(scale: Scale, run: Run, code: LoadedCode | None = None) -> Path:
    """All measurements of a run into results/{scale}/probes/{run}.

    code: what this process computes with, where the caller has looked already.
    """
    code = code or LoadedCode(probe_job(run))
    folder = scale.root / "results" / scale.name / "probes" / run.id
    check_folder_writable(folder)
    probe = load(PROBES[probe_kind(run.settings)])(scale, run)
    files = {}
    log.info("%s: interventions", run.id)
    files["interventions.csv"] = _csv(probe.interventions())
    log.info("%s: attention", run.id)
    files["attention.csv"] = _csv(probe.attention())
    log.info("%s: gallery", run.id)
    files["gallery.json"] = json.dumps(probe.gallery(), separators=(",", ":"), allow_nan=False) + "\n"
    code.check()
    for name, text in files.items():
        write_text(folder / name, text)
    return folder
