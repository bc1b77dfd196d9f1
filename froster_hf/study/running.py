"""A study from its plan to its report: worlds and jobs side by side, in processes of their own.

Hyperparameters are chosen and written down before any test world is drawn.
"""

import json
import multiprocessing
import os
import platform
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..evaluation.report import package_versions
from .choosing import choose
from .jobs import Job, Metrics, job_for, measure_frozen, run_job, stored_metrics
from .plan import StudyPlan
from .report import write_report
from .worlds import World, prepare_world


def run_study(
    plan: StudyPlan,
    *,
    work: Path,
    output: Path,
    processes: int = 2,
    log: Callable[[str], None] = print,
    command: str | None = None,
) -> Path:
    """Runs what has not been run, and writes the report.

    Args:
        plan: see [`load_plan`].
        work: folder of worlds and runs, found again by the next call.
        output: folder of `study.json`, `README.md` and plots.
        processes: jobs side by side, one thread each.
        log: told of every finished job.
        command: that the report says it was made by.

    Returns:
        `output / "README.md"`.
    """
    started = time.monotonic()
    with _Workers(processes, work, log) as workers:

        def prepare(worlds: list[int]) -> list[dict[str, Metrics]]:
            return workers.run([_world_call(plan, World.at(work, seed)) for seed in worlds])

        def run_jobs(jobs: list[Job]) -> list[dict[str, Metrics]]:
            return workers.run([_job_call(plan, job, work) for job in jobs])

        prepare([plan.validation_world])
        choices, trials = choose(plan, run_jobs)
        found = {"choices": choices, "trials": trials}
        (work / "choices.json").write_text(json.dumps(found, indent=2), encoding="utf-8")
        for method, values in choices.items():
            log(f"Chosen for {method}: {values or 'nothing to choose'}")

        frozen = prepare(plan.test_worlds)
        jobs = [
            job_for(plan, method, world=world, seed=seed, choices=choices[method], test=True)
            for world in plan.test_worlds
            for seed in plan.seeds
            for method in plan.methods
        ]
        measured = run_jobs(jobs)
    runs = [
        {"method": name, "world": world, "seed": seed, **metrics}
        for world, measured_frozen in zip(plan.test_worlds, frozen)
        for seed in plan.seeds
        for name, metrics in measured_frozen.items()
    ]
    for job, of_job in zip(jobs, measured):
        runs += [{"method": name, "world": job.world, "seed": job.seed, **own} for name, own in of_job.items()]
    study = {
        "plan": plan.to_dict(),
        "command": command,
        "machine": _machine(processes),
        "versions": package_versions(),
        "minutes": _minutes_so_far(work, time.monotonic() - started),
        "choices": choices,
        "trials": trials,
        "runs": runs,
    }
    return write_report(study, output)


class _Call(NamedTuple):
    """Something to be measured in a process of its own, into a folder where it may lie already."""

    title: str
    folder: Path
    function: Callable[..., dict[str, Metrics]]
    arguments: tuple[Any, ...]


def _world_call(plan: StudyPlan, world: World) -> _Call:
    return _Call(f"world {world.seed}, pre-trained and rendered", world.frozen, _prepare, (plan, world))


def _prepare(plan: StudyPlan, world: World) -> dict[str, Metrics]:
    prepare_world(plan, world)
    return measure_frozen(plan, world)


def _job_call(plan: StudyPlan, job: Job, work: Path) -> _Call:
    title = f"world {job.world}, seed {job.seed}, {job.method} ({', '.join(job.overrides)})"
    return _Call(title, job.folder(work), run_job, (plan, job, work))


class _Workers:
    """Calls in processes of their own, spawned: a fork would inherit torch's thread pools."""

    def __init__(self, processes: int, work: Path, log: Callable[[str], None]):
        self.log = log
        self._pool = ProcessPoolExecutor(
            processes,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_start_worker,
            initargs=(work / "log.txt",),
        )

    def __enter__(self) -> "_Workers":
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def run(self, calls: Sequence[_Call]) -> list[dict[str, Metrics]]:
        """What was measured by each call, now or by an earlier study in the same folder."""
        results = {index: stored for index, call in enumerate(calls) if (stored := stored_metrics(call.folder))}
        futures = {
            self._pool.submit(call.function, *call.arguments): index
            for index, call in enumerate(calls)
            if index not in results
        }
        for future in as_completed(futures):
            index = futures[future]
            results[index] = future.result()
            self.log(f"  {len(results)}/{len(calls)}: {calls[index].title}")
        return [results[index] for index in range(len(calls))]


def _start_worker(log_file: Path) -> None:
    """One thread a process; all that libraries say goes to the log."""
    torch.set_num_threads(1)
    log_file.parent.mkdir(parents=True, exist_ok=True)
    with open(log_file, "a", encoding="utf-8") as log:
        # By descriptor: loggers hold on to the streams that they found when they were made.
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)


def _minutes_so_far(work: Path, seconds: float) -> float:
    """Of this run and of those before it in the same folder."""
    file = work / "seconds.txt"
    if file.exists():
        seconds += float(file.read_text(encoding="utf-8"))
    file.write_text(f"{seconds:.1f}\n", encoding="utf-8")
    return seconds / 60


def _machine(processes: int) -> dict[str, Any]:
    return {"system": platform.system(), "processor": _processor(), "cores": os.cpu_count(), "processes": processes}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()
