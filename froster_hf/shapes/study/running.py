"""A study from its plan to its report: worlds and jobs side by side, in processes of their own.

Hyperparameters are chosen and written down before any test world is drawn.
"""

import json
import math
import multiprocessing
import os
import platform
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...evaluation.report import package_versions
from ...modeling.configuration_froster import FrosterConfig
from ...modeling.tables_froster import modules_without_parameters
from ...printing import listing, printable
from ...processing.text_files import read_json
from ...training.recipes import Recipe
from ...whole_files import (
    check_writable,
    make_folder,
    refuse_irregular,
    refuse_links_within,
    refuse_other_names,
    refuse_results,
    worked_in_alone,
    write_text_whole,
)
from .jobs import (
    CLIP,
    COMPARED,
    COMPARED_CLIPS,
    METRICS_FILE,
    Job,
    Metrics,
    costs_of,
    gigaflops,
    job_for,
    prepare_and_measure,
    pretrain_and_measure,
    run_job,
    stored_metrics,
)
from .plan import FROZEN, StudyPlan
from .report import PLOT_NAMES, write_study
from .worlds import World, tested_clips, what_decides

# A hundred years.
MOST_SECONDS = 100 * 366 * 86_400
# Runs jobs, side by side where it can, and returns what was measured of each.
RunJobs = Callable[[list[Job]], list[dict[str, Metrics]]]


def run_study(
    plan: StudyPlan,
    *,
    work: Path,
    output: Path,
    processes: int = 2,
    log: Callable[[str], None] = print,
    command: str | None = None,
    overwrite: bool = False,
    minutes: float | None = None,
) -> Path:
    """Runs what has not been run, and writes the report.

    Args:
        plan: see [`load_plan`].
        work: folder of worlds and runs, found again by the next call.
        output: folder of `study.json`, `README.md` and plots.
        processes: jobs side by side, one thread each.
        log: told of every finished job.
        command: that the report says it was made by.
        overwrite: write over the report of another plan, or the README of something else, in `output`.
        minutes: after which nothing new is begun; what has begun is finished. `None` goes on to the end.

    Returns:
        `output / "README.md"`.

    Raises:
        StudyPausedError: the minutes are over; the next call goes on.
        ValueError: a mistake in the plan, another report in `output`, a link or another study at work in `work`,
            or a run that failed.
        OSError: nothing can be written to `work` or `output`.
    """
    _check_jobs(plan, work)
    for folder in (work, output):
        check_writable(folder)
    refuse_links_within(work)
    with worked_in_alone(work):
        if not overwrite:
            _refuse_other_report(plan, output)
        watch = _Stopwatch(work, plan.name)
        test_worlds = [World(plan, seed, work) for seed in plan.test_worlds]
        has_choices = any(method.grid for method in plan.methods.values())
        validation_worlds = [World(plan, seed, work) for seed in plan.validation_worlds if has_choices]
        with _Workers(processes, work, log, watch, minutes) as workers:
            # The pre-trainings first: they know nothing of the worlds, and draw none.
            clips = workers.pretrain([*validation_worlds, *test_worlds])
            workers.prepare(validation_worlds)
            choices, trials = choose(plan, work, workers.run_jobs)
            _keep_choices(
                choices, work / f"choices-{plan.name}.json", drawn=any(world.folder.exists() for world in test_worlds)
            )
            for method, values in choices.items():
                log(f"Chosen for {method}: {values or 'nothing to choose'}")

            frozen = workers.prepare(test_worlds)
            jobs = [
                job_for(method, world=world, seed=seed, choices=choices[method], test=True)
                for world in test_worlds
                for seed in plan.seeds
                for method in plan.methods
            ]
            measured = workers.run_jobs(jobs)
        _refuse_other_measures(test_worlds, frozen, jobs, measured)
        study = {
            "plan": plan.to_dict(),
            "recipe": what_decides(test_worlds[0].recipe()),
            "pretraining": what_decides(test_worlds[0].pretraining()),
            "command": command,
            "machine": _machine(processes),
            "versions": package_versions(),
            "minutes": watch.minutes(),
            "clips": [
                {"world": world.seed, **of_clip[CLIP]}
                for world, of_clip in zip([*validation_worlds, *test_worlds], clips)
            ],
            "gigaflops": _costs(jobs[: len(plan.methods)]),
            "choices": choices,
            "trials": trials,
            "runs": _runs(test_worlds, frozen, jobs, measured),
        }
        return write_study(study, output)


def _costs(jobs: Sequence[Job]) -> dict[str, float]:
    """`gigaflops` of the frozen model, and of each job's method and variants."""
    frozen = gigaflops(jobs[0].world.frozen_recipe().model)
    return {FROZEN: frozen, **{name: cost for job in jobs for name, cost in costs_of(job).items()}}


def _runs(
    worlds: Sequence[World],
    frozen: Sequence[Mapping[str, Metrics]],
    jobs: Sequence[Job],
    measured: Sequence[Mapping[str, Metrics]],
) -> list[dict[str, Any]]:
    """What was measured, an entry per method or variant, world and seed; the frozen model has no fine-tuning seed."""
    runs: list[dict[str, Any]] = [
        {"method": FROZEN, "world": world.seed, "seed": None, **of_world[FROZEN]}
        for world, of_world in zip(worlds, frozen)
    ]
    for job, of_job in zip(jobs, measured):
        runs += [{"method": name, "world": job.world.seed, "seed": job.seed, **own} for name, own in of_job.items()]
    return runs


def _refuse_other_measures(
    worlds: Sequence[World],
    frozen: Sequence[Mapping[str, Metrics]],
    jobs: Sequence[Job],
    measured: Sequence[Mapping[str, Metrics]],
) -> None:
    """Raise where a method has another set of known measures than the frozen model has of the same clips."""
    of_worlds = {world.seed: (world.frozen, _known(own[FROZEN])) for world, own in zip(worlds, frozen)}
    for job, of_job in zip(jobs, measured):
        beside, expected = of_worlds[job.world.seed]
        for own in of_job.values():
            if others := sorted(expected ^ _known(own)):
                raise ValueError(
                    f"Of {listing(others, limit=5)}, one of {printable(str(job.folder / METRICS_FILE))} and "
                    f"{printable(str(beside / METRICS_FILE))} has a number and the other has none, though both are "
                    "of the same clips. Delete the one that was altered to have it measured again."
                )


def _known(metrics: Metrics) -> set[str]:
    return {name for name, value in metrics.items() if not math.isnan(value)}


def choose(plan: StudyPlan, work: Path, run_jobs: RunJobs) -> tuple[dict[str, dict[str, float]], list[dict[str, Any]]]:
    """Tries the grids of all methods on the validation worlds; of equal values, the one that stands first is taken.

    Returns:
        The choices by method, and every trial behind them: method, field, values, and its metrics, which are means
        over the worlds.
    """
    choices: dict[str, dict[str, float]] = {name: {} for name in plan.methods}
    trials: list[dict[str, Any]] = []
    depth = max((len(method.grid) for method in plan.methods.values()), default=0)
    for step in range(depth):
        fields = {name: list(own.grid)[step] for name, own in plan.methods.items() if len(own.grid) > step}
        wanted = [(name, value) for name, field in fields.items() for value in plan.methods[name].grid[field]]
        found: dict[str, dict[float, float]] = {name: {} for name in fields}
        for _ in range(plan.grid_extensions + 1):
            # All methods that have something left to try, together: as much as can be runs side by side.
            for (name, value), metrics in zip(wanted, _try_values(plan, work, run_jobs, wanted, fields, choices)):
                fixed = {other: kept for other, kept in choices[name].items() if other != fields[name]}
                trials.append({"method": name, "field": fields[name], "value": value, "fixed": fixed, **metrics})
                found[name][value] = metrics["hm"]
            for name, field in fields.items():
                choices[name][field] = max(found[name], key=lambda value: found[name][value])
            beyond = {name: _beyond(list(found[name]), choices[name][field]) for name, field in fields.items()}
            wanted = [(name, value) for name, value in beyond.items() if value is not None]
            if not wanted:
                break
    for name, method in plan.methods.items():
        if method.choices_of is not None:
            choices[name] = dict(choices[method.choices_of])
    return choices, trials


def _try_values(
    plan: StudyPlan,
    work: Path,
    run_jobs: RunJobs,
    wanted: Sequence[tuple[str, float]],
    fields: Mapping[str, str],
    choices: Mapping[str, Mapping[str, float]],
) -> list[Metrics]:
    """What is measured of each (method, value), a mean over the validation worlds."""
    worlds = [World(plan, seed, work) for seed in plan.validation_worlds]
    jobs = [
        job_for(name, world=world, seed=plan.seeds[0], choices={**choices[name], fields[name]: value}, test=False)
        for name, value in wanted
        for world in worlds
    ]
    measured = [of_job[job.method] for job, of_job in zip(jobs, run_jobs(jobs))]
    of_value = [measured[start : start + len(worlds)] for start in range(0, len(measured), len(worlds))]
    return [
        {metric: float(np.mean([each.get(metric, math.nan) for each in own])) for metric in own[0]} for own in of_value
    ]


def _beyond(tried: Sequence[float], best: float) -> float | None:
    """The next value beyond the edge of what was tried, where the best stands there, by the ratio of the two at the
    edge; none where they have no ratio, or one that leads out of the numbers."""
    values = sorted(tried)
    if len(values) < 2 or values[0] < best < values[-1]:
        return None
    edge, before = values[:2] if best == values[0] else (values[-1], values[-2])
    beyond = edge * edge / before if min(edge, before) > 0 else 0.0
    return beyond if 0 < beyond < math.inf else None


def _refuse_other_report(plan: StudyPlan, output: Path) -> None:
    readme, file = output / "README.md", output / "study.json"
    study = read_json(file) if file.is_file() else None
    found = study.get("plan") if isinstance(study, dict) else None
    if (readme.exists() or file.exists()) and found != json.loads(json.dumps(plan.to_dict())):
        what = "the report of another plan" if study is not None else "a README.md that is not the report of a study"
        raise ValueError(f"{output} holds {what}. Give another --output, or replace it with --overwrite.")
    if study is None:
        refuse_results(*(output / name for name in PLOT_NAMES), overwrite=False)


def _check_jobs(plan: StudyPlan, work: Path) -> None:
    """Read every recipe that the plan will need: a mistake in the last one is found before hours of work."""
    world = World(plan, plan.test_worlds[0], work)
    world.pretraining()
    shared = world.recipe()
    for name, method in plan.methods.items():
        try:
            least = {field: min(values) for field, values in method.grid.items()}
            recipe = job_for(name, world=world, seed=0, choices=least, test=True).recipe()
        except ValueError as error:
            raise ValueError(f"The plan {plan.name}, method {name}: {error}") from error
        if _shared(recipe) != _shared(shared):
            raise ValueError(
                f"The plan {plan.name}, method {name}: its overrides change the world, the data, the checkpoint or "
                "the frames that a model is tested on (model.num_frames, training.eval_video_options, ...), which all "
                "methods of a study share. Change them in the recipe of the plan."
            )
        if "weight_average" in method.variants and recipe.training.get("average_weights_from_epoch") is None:
            raise ValueError(
                f"The plan {plan.name}, method {name}: the variant weight_average needs the override "
                "training.average_weights_from_epoch=EPOCH."
            )
        module = recipe.model.temporal_module or FrosterConfig.temporal_module
        if "interpolation" in method.variants and module not in modules_without_parameters():
            raise ValueError(
                f"The plan {plan.name}, method {name}: {module} has weights that CLIP does not "
                f"have, and nothing lies between the two. Interpolated are {', '.join(modules_without_parameters())}."
            )


def _shared(recipe: Recipe) -> Any:
    """What is the same for all methods of a study."""
    return recipe.world, recipe.data, recipe.model.checkpoint, tested_clips(recipe)


def _keep_choices(choices: dict[str, dict[str, float]], file: Path, *, drawn: bool) -> None:
    """Write the choices down; once test worlds are drawn they stand.

    Raises:
        ValueError: the test worlds were drawn before, and not after these very choices.
    """
    refuse_irregular(file)
    if drawn and not (file.exists() and read_json(file) == choices):
        raise ValueError(
            f"The test worlds in {file.parent} were not drawn after these choices (see {file.name}); a choice made "
            "now could have been made by looking at them. Give another work folder, or other test worlds."
        )
    write_text_whole(file, json.dumps(choices, indent=2) + "\n")


class StudyPausedError(Exception):
    """The time of a call is over, and the study is not; the message says how much is done."""


class _Stopwatch:
    """Seconds of work on a plan, over all its runs in a folder, also those that were killed."""

    def __init__(self, work: Path, name: str):
        self._file, self._last = work / f"seconds-{name}.json", time.monotonic()
        make_folder(work)

    def note(self) -> None:
        """Add what has passed since the last time."""
        now = time.monotonic()
        write_text_whole(self._file, json.dumps(self._seconds() + now - self._last))
        self._last = now

    def minutes(self) -> float:
        """All of it."""
        self.note()
        return self._seconds() / 60

    def _seconds(self) -> float:
        refuse_irregular(self._file)
        seconds = read_json(self._file) if self._file.exists() else 0.0
        if type(seconds) not in (int, float) or not 0 <= seconds <= MOST_SECONDS:
            raise ValueError(
                f"{printable(str(self._file))} is not a number of seconds. Delete it to count from now on."
            )
        return seconds


class _Workers:
    """Calls in processes of their own, spawned: a fork would inherit torch's thread pools."""

    def __init__(
        self, processes: int, work: Path, log: Callable[[str], None], watch: _Stopwatch, minutes: float | None
    ):
        self.processes, self.log, self.watch, self.log_file = processes, log, watch, work / "log.txt"
        refuse_other_names(self.log_file)
        self.end = None if minutes is None else time.monotonic() + 60 * minutes
        self._pool = ProcessPoolExecutor(
            processes,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_start_worker,
            initargs=(self.log_file,),
        )

    def __enter__(self) -> "_Workers":
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def pretrain(self, worlds: Sequence[World]) -> list[dict[str, Metrics]]:
        """The CLIPs of worlds, and what is measured of each."""
        titles = [f"the CLIP of world {world.seed}" for world in worlds]
        places = [(world.clip.parent, (CLIP,), COMPARED_CLIPS) for world in worlds]
        return self._run(titles, places, pretrain_and_measure, worlds)

    def prepare(self, worlds: Sequence[World]) -> list[dict[str, Metrics]]:
        """Render worlds, and measure the CLIP of each as it is."""
        titles = [f"world {world.seed}, rendered" for world in worlds]
        places = [(world.frozen, (FROZEN,), COMPARED) for world in worlds]
        return self._run(titles, places, prepare_and_measure, worlds)

    def run_jobs(self, jobs: Sequence[Job]) -> list[dict[str, Metrics]]:
        """Fine-tunings, and what is measured of each."""
        places = [(job.folder, job.rows, COMPARED) for job in jobs]
        return self._run([job.title for job in jobs], places, run_job, jobs)

    def _run(
        self,
        titles: Sequence[str],
        places: Sequence[tuple[Path, Sequence[str], Sequence[str]]],
        function: Callable[..., Any],
        arguments: Sequence[Any],
    ) -> list[dict[str, Metrics]]:
        """`function(argument)` for each, unless its folder tells what an earlier study in this place measured.

        Raises:
            StudyPausedError: the minutes are over, and calls are left.
            ValueError: a call failed; names it and the log.
        """
        results = {index: stored for index, place in enumerate(places) if (stored := stored_metrics(*place))}
        waiting = [index for index in range(len(arguments)) if index not in results]
        running: dict[Future, int] = {}
        while waiting or running:
            while waiting and len(running) < self.processes and not self._is_over():
                index = waiting.pop(0)
                running[self._pool.submit(function, arguments[index])] = index
            if not running:
                raise StudyPausedError(
                    f"{len(results)} of these {len(arguments)} are done, as {titles[waiting[0]]} is not"
                )
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                index = running.pop(future)
                try:
                    results[index] = future.result()
                except Exception as error:
                    raise ValueError(f"{titles[index]} failed: {error!r}; see {self.log_file}.") from error
                self.watch.note()
                self.log(f"  {len(results)}/{len(arguments)}: {titles[index]}")
        return [results[index] for index in range(len(arguments))]

    def _is_over(self) -> bool:
        return self.end is not None and time.monotonic() >= self.end


def _start_worker(log_file: Path) -> None:
    """One thread a process; all that libraries say goes to the log; where the parent is killed, so is the worker."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    make_folder(log_file.parent)
    refuse_irregular(log_file)
    with open(log_file, "a", encoding="utf-8") as log:
        # By descriptor: loggers hold on to the streams that they found when they were made.
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _machine(processes: int) -> dict[str, Any]:
    return {"system": platform.system(), "processor": _processor(), "cores": _cores(), "processes": processes}


def _cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()
