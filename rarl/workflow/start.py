"""What is looked at before Snakemake runs jobs, and after it: the Snakefile's part that is no rule."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import Any

from snakemake.exceptions import CliException
from snakemake.logging import logger

from rarl.config.scale import Scale
from rarl.errors import RarlError
from rarl.workflow import lock as workflow_lock
from rarl.workflow import records as workflow_records
from rarl.workflow import verify

EVERYTHING = "all"


def guard(workflow: Any, scale: Scale) -> None:
    """Let a Snakemake workflow start only alone in its folder and on products that are what their records say.

    Wraps `workflow.execute`, which begins by reading the state of all files. Jobs of this workflow that run in a
    Snakemake of their own (on a cluster) are left alone, and so is what only reads the Snakefile. A dry run looks, but
    does not lock. What was made is looked at, too; after `all` it must be what the settings ask for.

    Raises:
        RarlError: the saved records of the workflow cannot be read.
    """
    if not workflow.is_main_process:
        return
    workflow_lock.mark_jobs()
    workflow_records.load_records(scale.name, scale.root)
    execute = workflow.execute

    @wraps(execute)
    def guarded(executor_plugin: Any, *arguments: Any, **keywords: Any) -> Any:
        try:
            if executor_plugin.common_settings.dryrun_exec:
                verify.check(scale, planned=False)
                return execute(executor_plugin, *arguments, **keywords)
            _lift_default_limit(workflow.scheduling_settings)
            with workflow_lock.hold(scale.root, tell=logger.warning):
                verify.check(scale, planned=False)
                everything = _makes_everything(workflow.dag_settings)
                try:
                    done = execute(executor_plugin, *arguments, **keywords)
                except BaseException:  # Ctrl-C, too: what was made until then is not what the saved records tell of
                    with suppress(OSError):
                        _save(scale, everything)
                    raise
                verify.check(scale, planned=everything)
                _save(scale, everything)
                return done
        except RarlError as error:
            raise CliException(str(error)) from None  # of which Snakemake prints the text alone

    workflow.execute = guarded


def _makes_everything(settings: Any) -> bool:
    """Whether after this run of Snakemake all products should be as planned."""
    parts = settings.until or settings.omit_from or settings.batch is not None
    return not parts and (not settings.targets or EVERYTHING in settings.targets)


def _lift_default_limit(settings: Any) -> None:
    """With a limit of jobs per time span, of which one is on by default, Snakemake 9 looks at all jobs that are ready
    once more in every such span for each job that it started: after a hundred jobs that costs half a core. A limit that
    the user sets stays."""
    limit = settings.max_jobs_per_timespan
    if limit is not None and (limit.max_jobs, limit.timespan) == (100, 1):
        settings.max_jobs_per_timespan = None


def _save(scale: Scale, everything: bool) -> None:
    kept = everything or workflow_records.file_of(scale.name, scale.root).exists()
    if kept and workflow_records.is_outdated(scale.name, scale.root):
        workflow_records.save_records(scale.name, scale.root)


def check_recordable(scale: Scale) -> None:
    """Refuse to record where a clone would not get what is recorded.

    Raises:
        RarlError: no git repository here; or one that ignores the small products of this scale.
    """
    root = scale.root
    products = [f"results/{scale.name}/costs.csv", f"reports/{scale.name}/README.md"]
    try:
        done = subprocess.run(
            ["git", "check-ignore", *products],
            cwd=root,
            env={**os.environ, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
    except OSError as error:
        raise RarlError(f"git cannot be run ({error.strerror}); a record is a commit") from None
    if done.returncode == 128:
        reason = (done.stderr.strip().splitlines() or ["git says no more"])[0].removeprefix("fatal: ")
        raise RarlError(
            f"{Path(root).resolve()}: {reason}; a record is a commit: work in a clone, or `git init && git add -A && "
            "git commit` first"
        )
    if done.returncode == 0:
        raise RarlError(
            f"git ignores {done.stdout.split()[0]} (.gitignore), so scale {scale.name} is nobody's result and is not "
            "recorded; config/config.yaml names the scale that is"
        )


def record(scale: Scale) -> Path:
    """Make the finished products of a scale ready to be recorded: checked, and with the records of how they were made.

    Raises:
        RarlError: something is not what its record says or what the settings ask for, or a clone would not get it; or
            nothing was made.
    """
    check_recordable(scale)
    workflow_records.load_records(scale.name, scale.root)
    if not workflow_records.has_records(scale.name, scale.root):
        raise RarlError(f"scale {scale.name}: nothing of it was made here by Snakemake; `snakemake all` first")
    verify.check(scale)
    return workflow_records.save_records(scale.name, scale.root)
