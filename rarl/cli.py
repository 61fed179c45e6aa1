"""The `rarl` command: one function per sub-command, no logic of its own.

What computes (and torch, pandas, matplotlib) is imported inside the functions that need it, after its code was held
against the code that the caller expects.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from pathlib import Path

from rarl.config.doubts import doubts_about
from rarl.config.scale import Scale, default_scale, index_cost_plan
from rarl.errors import RarlError
from rarl.files import ENVIRONMENTAL
from rarl.jobs import (
    Job,
    LoadedCode,
    costs_job,
    dataset_job,
    index_cost_job,
    probe_job,
    report_job,
    train_job,
)
from rarl.quick_start import import_torch
from rarl.workflow.rules import cost_digest, index_cost_digest, plan_digest


def _scale(arguments: argparse.Namespace) -> Scale:
    return Scale(arguments.scale or default_scale())


def _loaded(arguments: argparse.Namespace, job: Job) -> LoadedCode:
    """The code of a job, if it is the one that the caller expects. Call this before importing what computes."""
    return LoadedCode(job, arguments.code)


def _check_digest(arguments: argparse.Namespace, own: str, what: str) -> None:
    if arguments.digest and arguments.digest != own:
        raise RarlError(
            f"{what}: the configuration on disk has digest {own}, the caller expected {arguments.digest}; "
            "a file under config/ changed meanwhile: start the workflow again"
        )


def datasets_make(arguments: argparse.Namespace) -> None:
    scale = _scale(arguments)
    dataset = scale.find_dataset(arguments.dataset)
    _check_digest(arguments, dataset.digest, arguments.dataset)
    code = _loaded(arguments, dataset_job(dataset))
    from rarl.collect.make import make_dataset

    make_dataset(scale, dataset, code)


def datasets_list(arguments: argparse.Namespace) -> None:
    for name in _scale(arguments).datasets:
        print(name)


def datasets_verify(arguments: argparse.Namespace) -> None:
    from rarl.workflow.verify import verify_folder

    for folder in arguments.folder:
        dataset, compared = verify_folder(folder, quick=arguments.quick)
        found = "in order" if arguments.quick else "all hashes match"
        print(f"{folder}: {dataset.episodes:,} episodes, {dataset.steps:,} steps, {found}, {compared}")


def datasets_export(arguments: argparse.Namespace) -> None:
    from rarl.trajectories.minari import check_id, export_minari
    from rarl.workflow.verify import environment_of, verify_folder

    check_id(arguments.minari_id)
    dataset, _ = verify_folder(arguments.folder)
    environment = arguments.environment or environment_of(arguments.folder)
    print(export_minari(dataset, arguments.minari_id, arguments.root, environment=environment))


def train(arguments: argparse.Namespace) -> None:
    scale = _scale(arguments)
    run = scale.find_run(arguments.run)
    _check_digest(arguments, run.digest, arguments.run)
    for doubt in doubts_about(run.settings):
        logging.getLogger(__name__).warning(doubt)
    import_torch()
    code = _loaded(arguments, train_job(run))
    from rarl.runs.train import train_run

    train_run(
        scale,
        run,
        device=arguments.device,
        force=arguments.force,
        restart_if_changed=arguments.digest is not None,
        record_failure=arguments.record_failure,
        code=code,
    )


def search(arguments: argparse.Namespace) -> None:
    import_torch()
    from rarl.runs.search import try_settings

    try_settings(
        _scale(arguments), arguments.experiment, arguments.task_set, arguments.variant, arguments.seed, arguments.set
    )


def probe(arguments: argparse.Namespace) -> None:
    scale = _scale(arguments)
    run = scale.find_run(arguments.run)
    _check_digest(arguments, run.digest, arguments.run)
    import_torch()
    code = _loaded(arguments, probe_job(run))
    from rarl.probes.probe import probe_run

    probe_run(scale, run, code)


def report(arguments: argparse.Namespace) -> None:
    scale = _scale(arguments)
    _check_digest(arguments, plan_digest(scale), f"report of scale {scale.name}")
    code = _loaded(arguments, report_job(scale))
    from rarl.reporting.report import build_report, folder_of, title_of
    from rarl.reporting.site import build_site
    from rarl.workflow.plan import made_by_other_code

    if arguments.only != "site":
        page = build_report(
            scale.name,
            planned_runs=list(scale.wanted()),
            planned_datasets=scale.datasets,
            preview=arguments.preview,
            before_publishing=code.check,
            order=list(scale.experiments),
            by_other_code=made_by_other_code(scale),
        )
    if arguments.only != "pages":
        folder = folder_of(scale.name, preview=arguments.preview)
        page = build_site(folder, title_of(scale.name, preview=arguments.preview))
    print(page)


def verify(arguments: argparse.Namespace) -> None:
    from rarl.workflow.verify import check

    scale = _scale(arguments)
    check(scale, reread=arguments.full)
    print(f"scale {scale.name}: every dataset and checkpoint is what its record says")


def restore(arguments: argparse.Namespace) -> None:
    from rarl.workflow.restore import restore, scale_of_path

    named = arguments.scale or (scale_of_path(arguments.path[0]) if arguments.path else None)
    done, left = restore(Scale(named or default_scale()), arguments.path)
    for path in done:
        print(f"{path}: restored")
    if left:
        advice = "add a remote that has it, or let the workflow make what is missing; remove first what is damaged"
        raise RarlError("\n".join([*left, advice]))
    if not done:
        print("nothing is missing or damaged")


def record(arguments: argparse.Namespace) -> None:
    from rarl.workflow.start import check_recordable, record

    scale = _scale(arguments)
    if arguments.check:
        check_recordable(scale)
    else:
        print(record(scale))


def plan(arguments: argparse.Namespace) -> None:
    from rarl.workflow.plan import describe_plan

    print(describe_plan(_scale(arguments)))


def env_check(arguments: argparse.Namespace) -> None:
    import_torch()
    from rarl.env_check import check_environment

    for line in check_environment(arguments.environment):
        print(line)


def index_cost(arguments: argparse.Namespace) -> None:
    scale = _scale(arguments)
    _check_digest(arguments, index_cost_digest(scale), f"index-cost of scale {scale.name}")
    plan = index_cost_plan(scale)
    code = _loaded(arguments, index_cost_job(plan and plan[1]))
    from rarl.benchmarks.index_cost import write_index_cost

    print(write_index_cost(scale, code))


def costs(arguments: argparse.Namespace) -> None:
    scale = _scale(arguments)
    _check_digest(arguments, cost_digest(scale), f"costs of scale {scale.name}")
    output = Path(arguments.output) if arguments.output else None
    code = _loaded(arguments, costs_job(scale))
    from rarl.benchmarks import history
    from rarl.benchmarks.costs import measure_costs

    if arguments.history:
        history.kept(scale.root)
    path = measure_costs(scale, output, arguments.device, code)
    print(path)
    if arguments.history:
        print(history.append(scale.root, scale.name, path))


def compare(arguments: argparse.Namespace) -> None:
    scale = _scale(arguments)
    from rarl.reporting import repeats

    root, name = scale.root, scale.name
    before = repeats.read(Path(arguments.claims)) if arguments.claims else repeats.committed(root, name)
    if arguments.keep:
        print(repeats.keep(root, name, arguments.keep, before))
    else:
        print(repeats.told(repeats.compared(before, repeats.read(repeats.claims_of(root, name)))))


def _task_set(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


def parser() -> argparse.ArgumentParser:
    """The command line."""
    text = "Retrieval-augmented reinforcement learning: datasets, training, probes and reports."
    top = argparse.ArgumentParser(prog="rarl", description=text)
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def add(where, name: str, function, text: str, *, scale: bool = True, job: bool = False) -> argparse.ArgumentParser:
        command = where.add_parser(name, help=text, description=text)
        command.set_defaults(function=function)
        if job:
            command.add_argument("--digest", help="fail if the settings have another digest")
            command.add_argument("--code", help="fail if the code of this job has another digest")
        if scale:
            command.add_argument(
                "--scale", help="name of a file config/SCALE.yaml (default: the scale in config/config.yaml)"
            )
        return command

    datasets = commands.add_parser("datasets", help="make, verify and export datasets")
    of_datasets = datasets.add_subparsers(required=True, metavar="COMMAND")
    command = add(of_datasets, "make", datasets_make, "generate one dataset", job=True)
    command.add_argument("dataset", help="ENVIRONMENT/SOURCE/TASK")
    add(of_datasets, "list", datasets_list, "list the datasets of a scale")
    command = add(
        of_datasets,
        "verify",
        datasets_verify,
        "check hashes and values, and that it is the planned dataset",
        scale=False,
    )
    command.add_argument("folder", nargs="+", help="folders of datasets")
    command.add_argument(
        "--quick",
        action="store_true",
        help="trust files whose size and time did not change since they were last verified",
    )
    command = add(of_datasets, "export", datasets_export, "export a dataset as a Minari dataset", scale=False)
    command.add_argument("folder", help="folder of the dataset")
    command.add_argument("minari_id", help="name for Minari, for example rarl/lift-red-v0")
    command.add_argument("--root", help="folder of Minari datasets (default: Minari's own)")
    command.add_argument("--environment", help="module:SPEC or file.py:SPEC, for a dataset that belongs to no scale")

    command = add(commands, "train", train, "train one run, or resume it", job=True)
    command.add_argument("run", help="EXPERIMENT/TASK-SET/VARIANT/seed-N")
    command.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    command.add_argument("--force", action="store_true", help="restart from update 0")
    command.add_argument(
        "--record-failure", action="store_true", help="record a run that diverges as failed, and exit with code 0"
    )

    command = add(commands, "search", search, "run one trial: changed settings on a tuning seed, recorded")
    command.add_argument("experiment", help="name of a file in config/experiments/")
    command.add_argument("variant", help="a variant of the experiment")
    command.add_argument("--task-set", type=_task_set, help="a task set of the scale (default: its last)")
    command.add_argument("--seed", type=int, default=100, help="tuning seeds are 100 to 999")
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a setting, for example learning.discount=0.95; repeatable",
    )

    text = "probe a trained agent: what it retrieves, and interventions on retrieval"
    command = add(commands, "probe", probe, text, job=True)
    command.add_argument("run", help="EXPERIMENT/TASK-SET/VARIANT/seed-N")
    command = add(commands, "report", report, "build pages, figures, tables and site from the existing runs", job=True)
    command.add_argument("--preview", action="store_true", help="a preview, from whatever exists")
    command.add_argument("--only", choices=("pages", "site"), help="only the pages, or only the site of existing pages")
    add(commands, "index-cost", index_cost, "time and memory of nearest-neighbour search, by number of keys", job=True)
    text = "time and memory of every variant relative to its base"
    command = add(commands, "costs", costs, text, job=True)
    command.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    command.add_argument("--output", help="output file (default: results/SCALE/costs.csv)")
    command.add_argument("--history", action="store_true", help="also append to results/costs-history.csv, by commit")
    command = add(commands, "verify", verify, "check datasets and checkpoints against their records and the settings")
    command.add_argument("--full", action="store_true", help="read every byte, even of files that seem unchanged")
    command = add(
        commands,
        "restore",
        restore,
        "restore damaged or missing files from DVC's cache or remote; others stay untouched",
    )
    command.add_argument("path", nargs="*", help="files or folders (default: everything missing or damaged)")
    command = add(commands, "record", record, "prepare a finished scale for DVC, as `make record` and `dvc repro` do")
    command.add_argument("--check", action="store_true", help="only check whether the scale can be recorded")
    text = "do runs made again say the same? The report here against the committed one, or another"
    command = add(commands, "compare", compare, text)
    command.add_argument("claims", nargs="?", help="the other's tables/claims.csv (default: that of the last commit)")
    command.add_argument(
        "--keep", metavar="WHICH", help="keep what the other says in results/SCALE/repeats.csv, for the report to tell"
    )
    add(commands, "plan", plan, "what `snakemake all` would run, and its estimated time on this machine")
    environment = commands.add_parser("env", help="check an environment, also one of your own")
    of_environment = environment.add_subparsers(required=True, metavar="COMMAND")
    text = "check a specification, play the environment, and report what is wrong"
    command = add(of_environment, "check", env_check, text, scale=False)
    command.add_argument("environment", metavar="SPEC", help="name of an environment, module:SPEC or file.py:SPEC")
    return top


def main(argv: list[str] | None = None) -> None:
    """Entry point: errors meant for people, and those of disk and permissions, are one line and exit code 2."""
    arguments = parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    logging.getLogger("faiss").setLevel(logging.WARNING)  # it tells of its own loading
    try:
        arguments.function(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("rarl: interrupted", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:  # whoever reads the output has enough of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains when it ends
        sys.exit(128 + signal.SIGPIPE)
    except RarlError as error:
        print(f"rarl: error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno not in ENVIRONMENTAL or error.filename is None:
            raise
        print(f"rarl: error: {error.filename}: {error.strerror}", file=sys.stderr)
        sys.exit(RarlError.exit_code)
