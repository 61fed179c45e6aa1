"""`rarl costs`: what every variant costs, each beside the base of its experiment, measured in one run on one machine.

results/{scale}/costs.csv has a row for each variant of each experiment's largest task set, and for its base:

    experiment, task_set, variant   which
    base             the variant of the same experiment that its costs are to be compared with
    parameters       trainable ones
    step             what is done in one learner step
    learner_step_ms  milliseconds of one learner step
    acting_ms        milliseconds in which the agent chooses an action for one of `ACTING` environments in which it acts
                     at the same time; the environments' own time is not in it
    read_ms          milliseconds in which a retrieval batch is drawn and summarised: once per episode when it acts
    memory_mb        most memory of a process that builds the learner and takes a few learner steps, in 10^6 bytes:
                     resident memory (the libraries' included) on a CPU, what tensors took on a GPU
    tensors_mb       of parameters, those of target networks too, and the optimiser's state
    gflop            10^9 floating-point operations of a learner step's products of matrices and convolutions: what no
                     faster way of doing the same saves; empty on a GPU, where not all are counted
    gpu_busy         share of a learner step in which the GPU computes; empty on a CPU
    kernels          of a learner step; empty on a CPU
    rounds, threads, device

An empty cell is what this agent does not have. Replays and episodic memories are nearly empty: what grows with them
(memory, and the time in which episodic control finds neighbours) is that of a run's beginning. The learners are those
of `rarl train`; those of one experiment take turns (`rarl.benchmarks.timing`). With one thread on a CPU a time is that
of the processor. Beside the table lies environment-speed.csv (`rarl.benchmarks.environments`).
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rarl import provenance
from rarl.benchmarks.acting import acting, reading
from rarl.benchmarks.environments import COLUMNS as SPEED_COLUMNS
from rarl.benchmarks.environments import environment_speeds
from rarl.benchmarks.timing import Work
from rarl.config.scale import Run, Scale
from rarl.config.settings import RunSettings
from rarl.errors import RarlError, in_one_line
from rarl.files import check_writable, csv_text, write_text
from rarl.jobs import LoadedCode, costs_job
from rarl.mappings import merge
from rarl.progress import Progress
from rarl.runs.device import choose_device
from rarl.runs.loop import LoopSettings, torch_settings
from rarl.runs.train import learner_of, open_datasets, used_by
from rarl.trajectories.store import TrajectoryDataset

log = logging.getLogger(__name__)

COLUMNS = ("experiment", "task_set", "variant", "base", "parameters", "step", "learner_step_ms", "acting_ms", "read_ms",
           "memory_mb", "tensors_mb", "gflop", "gpu_busy", "kernels", "rounds", "threads", "device")  # fmt: skip
SPEEDS = "environment-speed.csv"
ACTING = 32  # environments that are acted in at a time
ROUNDS = (3, 7)  # least and most
# What is done only now and then (new networks for actors, a new index) is done in one step of so many, and counted as
# often as it is really done.
CYCLE = 3
ON_GPU = 90.0  # seconds of all variants together, since GPUs are lent by the minute
NO_END = 10**9  # updates of a run: as many as it takes
SHORT_EPISODE = 400  # frames
MOST_WARM_UP = 2000  # updates before the first learner step


def measure_costs(
    scale: Scale,
    output: Path | None = None,
    device: str = "auto",
    code: LoadedCode | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Path:
    """Measure all variants of a scale and write the table.

    Args:
      output: the file to write; default results/{scale}/costs.csv.
      device: as `rarl train` takes it.
      code: what this process computes with, where the caller has looked already.
      changes: settings of every variant that are to be others than planned.

    Returns:
      The file.

    Raises:
      RarlError: the table cannot be written, a dataset is missing, or a variant cannot be built or trained (named).
    """
    code = code or LoadedCode(costs_job(scale))
    planned, chosen, seconds = scale.cost_runs(), choose_device(device), scale.settings.costs.seconds_per_variant
    path = output or scale.root / "results" / scale.name / "costs.csv"
    check_writable(path)
    if chosen != "cpu":
        seconds = min(seconds, ON_GPU / max(1, sum(map(len, planned.values()))))
    opened: dict[tuple[Any, ...], list[TrajectoryDataset]] = {}
    rows: list[dict[str, Any]] = []
    # Of each variant: its memory, its learner, its times.
    with Progress(3 * sum(map(len, planned.values())), every_seconds=10, unit="measurements") as progress:
        for experiment, runs in planned.items():
            log.info("%s: %d variants", experiment, len(runs))
            for run in runs.values():
                needed = _data_of(run)
                if needed not in opened:
                    opened[needed] = open_datasets(scale, run)
            short = _all_shortened([_changed(run.settings, changes or {}) for run in runs.values()])
            subjects = [
                _Variant(run, ready, opened[_data_of(run)], chosen)
                for run, ready in zip(runs.values(), short, strict=True)
            ]
            found = _measured(subjects, seconds, progress, 3 * len(rows))
            # A base of another experiment stands beside the variants of this one, on their tasks.
            place = {
                "experiment": experiment,
                "task_set": subjects[-1].run.settings.task_set,
                "base": scale.base_variant(experiment)[1],
            }
            rows += [place | {"variant": variant} | row for variant, row in zip(runs, found, strict=True)]
    speeds = [row for run in _of_each_environment(planned) for row in environment_speeds(run, min(1.0, seconds))]
    code.check()
    for file, columns, of_file in ((path.with_name(SPEEDS), SPEED_COLUMNS, speeds), (path, COLUMNS, rows)):
        write_text(file, csv_text([columns, *([row[column] for column in columns] for row in of_file)]))
    log.info("%s: %d variants", path, len(rows))
    return path


def _data_of(run: Run) -> tuple[Any, ...]:
    """The same for runs that learn from the same data."""
    return (run.settings.episodes, *run.datasets)


def _of_each_environment(planned: Mapping[str, Mapping[str, Run]]) -> list[Run]:
    """The first run of each environment."""
    first: dict[str, Run] = {}
    for runs in planned.values():
        for run in runs.values():
            first.setdefault(run.settings.environment, run)
    return list(first.values())


def _measured(subjects: Sequence[_Variant], seconds: float, progress: Progress, done: int) -> list[dict[str, Any]]:
    """The columns of each variant of one experiment, but for its place; `done` measurements were done before."""
    memory = []
    for subject in subjects:
        memory.append(subject.memory_mb())
        progress.step(done := done + 1)
    stands = []
    with torch_settings(LoopSettings(device=subjects[0].device), 0):  # determinism as in a run
        for subject in subjects:
            stands.append(_Benchmark(subject, seconds))
            progress.step(done := done + 1)
        slowest = max(stand.seconds_per_round for stand in stands)
        rounds = min(max(ROUNDS[0], int(seconds / slowest)), ROUNDS[1])
        for turn in range(rounds):
            for stand in stands:
                stand.turn(rounds)
            progress.step(done + len(stands) * (turn + 1) // rounds)
    return [
        stand.row() | {"memory_mb": f"{most:.1f}", "rounds": rounds} for stand, most in zip(stands, memory, strict=True)
    ]


# ----------------------------------------------------------------------------------------------------- what is measured


def _all_shortened(settings: Sequence[RunSettings]) -> list[RunSettings]:
    """The settings of one experiment's variants without what comes before the ordinary learner step."""
    short = [_shortened(s) for s in settings]
    online = [s.online for s in short if s.online is not None]
    if len(online) < len(short):
        return short
    # All learn from equally full replays.
    enough = max(max(s.least_sequences, s.learning.batch_sequences) for s in short)
    starts = [min(enough, o.capacity_sequences) for o in online]
    return [_changed(s, {"online": {"start_sequences": start}}) for s, start in zip(short, starts, strict=True)]


def _shortened(settings: RunSettings) -> RunSettings:
    """Replays are hardly filled before learning begins, and what is done now and then is done every `CYCLE` steps."""
    changes: dict[str, Any] = {"updates": NO_END}
    retrieval = settings.agent.retrieval
    if retrieval.first_updates:
        changes = merge(changes, {"agent": {"retrieval": {"first_updates": 1}}})
    if retrieval.index is not None:
        refresh = min(CYCLE, retrieval.index.refresh_updates)
        changes = merge(changes, {"agent": {"retrieval": {"index": {"refresh_updates": refresh}}}})
    if settings.online is not None:
        refresh = min(CYCLE, settings.online.refresh_updates)
        changes = merge(changes, {"online": {"start_sequences": 1, "refresh_updates": refresh}})
    if settings.episodic is not None:
        changes = merge(changes, {"episodic": {"learn_from_steps": 0}})
        if settings.online is not None:  # what is played is stored when its episode ends
            cap = settings.environment_options.get("max_frames")
            if cap is not None:
                changes = merge(changes, {"environment_options": {"max_frames": min(SHORT_EPISODE, cap)}})
    return _changed(settings, changes)


def _changed(settings: RunSettings, changes: Mapping[str, Any]) -> RunSettings:
    return type(settings).model_validate(merge(settings.model_dump(), changes))


def _period(settings: RunSettings) -> int:
    """Learner steps from one that does what is done now and then to the next; 1: all are alike."""
    if settings.episodic is not None:
        return 1
    if settings.online is not None:
        return settings.online.refresh_updates
    index = settings.agent.retrieval.index
    return index.refresh_updates if index is not None else 1


def describe_step(settings: RunSettings) -> str:
    """What is done in one learner step."""
    learning, online, episodic = settings.learning, settings.online, settings.episodic
    played = f"{_count(online.steps_per_update, 'step')} of {_count(online.actors, 'actor')}" if online else ""
    if episodic is not None:
        played = played or f"{_count(episodic.episodes_per_update, 'episode')} of every task"
        return f"{played}, and what is learned on the way"
    if settings.agent.core == "none" and online is None:
        return _count(learning.batch_states, "state")
    sequences = f"{_count(learning.batch_sequences, 'sequence')} of {_count(learning.sequence_steps, 'step')}"
    return f"{sequences}, and {played}" if played else sequences


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}{'s' * (n != 1)}"


@dataclass
class _Variant:
    """A variant that is measured.

    run: as it is planned. ready: its settings while it is measured. datasets: as its learner gets them.
    """

    run: Run
    ready: RunSettings
    datasets: list[TrajectoryDataset]
    device: str

    @contextlib.contextmanager
    def named(self) -> Iterator[None]:
        """Whatever goes wrong is one line that names the variant."""
        try:
            yield
        except Exception as error:
            raise RarlError(f"costs of {self.run.id.rpartition('/')[0]}: {in_one_line(error)}") from error

    def learner(self) -> Any:
        """Its learner, after as many updates as it takes until all memory that it will use is there."""
        torch.set_num_threads(self.ready.threads)
        torch.manual_seed(self.ready.seed)
        learner = learner_of(self.run.with_settings(self.ready), self.datasets, self.device)
        for _ in range(MOST_WARM_UP):
            scalars = learner.update()
            if getattr(learner, "updates_done", 1) and scalars.get("memory_entries", 1):
                break
        else:
            raise RarlError(f"has not begun to learn after {MOST_WARM_UP} updates")
        learner.update()  # gradients, and the optimiser's state, are there now
        return learner

    def memory_mb(self) -> float:
        """The most memory of a process that builds the learner and lets it learn a little: of its own on a CPU; what is
        on a GPU is known for this one too, and a process of its own would take seconds."""
        if self.device != "cpu":
            with self.named(), torch_settings(LoopSettings(device=self.device), 0):
                before = torch.cuda.memory_allocated(self.device)
                torch.cuda.reset_peak_memory_stats(self.device)
                self.learner()
                return (torch.cuda.max_memory_allocated(self.device) - before) / 1e6
        processes = multiprocessing.get_context("forkserver")  # each is new, but finds what all import
        processes.set_forkserver_preload([__name__, "torch._inductor"])  # imported to choose algorithms
        receiver, sender = processes.Pipe(duplex=False)
        folders = [dataset.folder for dataset in self.datasets]
        process = processes.Process(
            target=_report_peak_memory, args=(sender, replace(self, datasets=[]), folders), daemon=True
        )
        process.start()
        sender.close()
        with self.named():
            try:
                found = receiver.recv()
            except EOFError:
                process.join()
                raise RarlError(f"its process ended with {process.exitcode}, perhaps for want of memory") from None
        process.join()
        if isinstance(found, str):
            raise RarlError(found)
        return found


def _report_peak_memory(sender: Connection, subject: _Variant, folders: Sequence[Path]) -> None:
    """Send the most memory that this process needs, in MB, or what went wrong."""
    try:
        with subject.named(), torch_settings(LoopSettings(device=subject.device), 0):
            # Their bytes were checked by the process that asks.
            opened = [TrajectoryDataset.open(folder, verify=False) for folder in folders]
            subject.datasets = [used_by(subject.run, dataset) for dataset in opened]
            subject.learner()
            found: float | str = provenance.peak_memory_mb()
    except RarlError as error:
        found = str(error)
    sender.send(found)


def tensor_bytes(learner: Any) -> int:
    """Bytes of all networks, optimisers and lists of tensors that a learner and its parts hold, each counted once."""
    tensors: list[Tensor] = []
    waiting, seen = [learner], set()
    while waiting:
        part = waiting.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, nn.Module):
            tensors += [*part.parameters(), *part.buffers()]
        elif isinstance(part, torch.optim.Optimizer):
            tensors += [value for state in part.state.values() for value in state.values() if torch.is_tensor(value)]
        elif isinstance(part, list | tuple):
            tensors += [value for value in part if torch.is_tensor(value)]
        elif type(part).__module__.startswith("rarl."):
            waiting += getattr(part, "__dict__", {}).values()
    return sum({tensor.data_ptr(): tensor.nbytes for tensor in tensors}.values())


# ------------------------------------------------------------------------------------------------------ how it is timed


def _gflop(step: Callable[[], Any]) -> str:
    """Of an ordinary learner step, in which nothing is done that is done only now and then, as text."""
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils.flop_counter import flop_registry

    # The library's own counter follows modules too, and fails where one runs without gradients.
    class Counter(TorchDispatchMode):
        total = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            found = function(*args, **(kwargs or {}))
            if count := flop_registry.get(function._overloadpacket):
                self.total += count(*args, **(kwargs or {}), out_val=found)
            return found

    counts = []
    for _ in range(CYCLE):
        with Counter() as counter:
            step()
        counts.append(counter.total)
    return f"{min(counts) / 1e9:.4g}"


def _on_gpu(step: Callable[[], Any], device: str) -> dict[str, str]:
    """What a GPU does in learner steps, as text, and copies are no kernels; nothing on a CPU."""
    if device == "cpu":
        return {"gpu_busy": "", "kernels": ""}
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    torch.cuda.synchronize(device)
    started = time.perf_counter()
    for _ in range(CYCLE):
        step()
    torch.cuda.synchronize(device)
    taken = time.perf_counter() - started  # without the profiler, which slows down what starts kernels
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        for _ in range(CYCLE):
            step()
        torch.cuda.synchronize(device)
    events = [event for event in profiler.events() if event.device_type == DeviceType.CUDA]
    busy = sum(event.time_range.elapsed_us() for event in events) / 1e6
    kernels = [event for event in events if not event.name.startswith(("Memcpy", "Memset"))]
    return {"gpu_busy": f"{busy / taken:.3g}", "kernels": f"{len(kernels) / CYCLE:.4g}"}


def _clock(subject: _Variant) -> Callable[[], float]:
    """The clock for a variant's time: with one thread, that of the process, so that what others take does not count."""
    s = subject.run.settings
    apart = s.online is not None and (s.online.overlap or s.environment_options.get("emulator_threads", 1) > 1)
    return time.process_time if subject.device == "cpu" and s.threads == 1 and not apart else time.perf_counter


class _Benchmark:
    """A learner and what is timed of it."""

    def __init__(self, subject: _Variant, seconds: float):
        self.subject = subject
        with subject.named():
            self.learner = subject.learner()
            phases = min(CYCLE, _period(subject.run.settings))
            calls = {
                "learner_step": (self.learner.update, phases, 0.7),
                "acting": (acting(self.learner, ACTING), 1, 0.2),
                "read": (reading(self.learner), 1, 0.1),
            }
            self.works = {
                name: Work(call, n, share * seconds, subject.device, _clock(subject))
                for name, (call, n, share) in calls.items()
                if call is not None
            }
            self.seconds_per_round = sum(sum(work.cycle()) for work in self.works.values())

    def turn(self, rounds: int) -> None:
        """One of so many rounds."""
        torch.set_num_threads(self.subject.ready.threads)
        with self.subject.named():
            for work in self.works.values():
                work.turn(rounds)

    def row(self) -> dict[str, Any]:
        """What was found, as text that is as exact as it can be."""
        settings = self.subject.run.settings
        period = {"learner_step": _period(settings)}
        times = {name: work.milliseconds(period.get(name, 1)) for name, work in self.works.items()}
        if "acting" in times:
            times["acting"] /= ACTING
        return {
            "parameters": sum(self.learner.parameter_counts().values()),
            "step": describe_step(settings),
            **{
                f"{name}_ms": f"{times[name]:.4g}" if name in times else ""
                for name in ("learner_step", "acting", "read")
            },
            "tensors_mb": f"{tensor_bytes(self.learner) / 1e6:.4g}",
            "gflop": _gflop(self.learner.update) if self.subject.device == "cpu" else "",
            **_on_gpu(self.learner.update, self.subject.device),
            "threads": settings.threads,
            "device": self.subject.device.partition(":")[0],
        }
