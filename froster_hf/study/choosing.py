"""Hyperparameters, chosen by the harmonic mean on the validation world, one field of a grid after the other."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from .jobs import Job, Metrics, job_for
from .plan import StudyPlan
from .worlds import World

# Runs jobs, side by side where it can, and returns what was measured of each.
RunJobs = Callable[[list[Job]], list[dict[str, Metrics]]]


def choose(plan: StudyPlan, work: Path, run_jobs: RunJobs) -> tuple[dict[str, dict[str, float]], list[dict[str, Any]]]:
    """Tries the grids of all methods on the validation world; of equal values, the one that stands first is taken.

    Returns:
        The choices by method, and every run behind them: method, field, values, and its metrics.
    """
    world, seed = World(plan, plan.validation_world, work), plan.seeds[0]
    choices: dict[str, dict[str, float]] = {name: {} for name in plan.methods}
    trials: list[dict[str, Any]] = []
    depth = max((len(method.grid) for method in plan.methods.values()), default=0)
    for step in range(depth):
        # All methods that have a field left, together: as much as can be runs side by side.
        tried: list[tuple[str, str, float, Job]] = []
        for name, method in plan.methods.items():
            for field in list(method.grid)[step : step + 1]:
                for value in method.grid[field]:
                    values = {**choices[name], field: value}
                    job = job_for(name, world=world, seed=seed, choices=values, test=False)
                    tried.append((name, field, value, job))
        results = run_jobs([job for *_, job in tried])
        best: dict[tuple[str, str], tuple[float, float]] = {}
        for (name, field, value, _), measured in zip(tried, results):
            metrics = measured[name]
            trials.append({"method": name, "field": field, "value": value, "fixed": dict(choices[name]), **metrics})
            if metrics["hm"] > best.get((name, field), (-1.0, value))[0]:
                best[name, field] = (metrics["hm"], value)
        for (name, field), (_, value) in best.items():
            choices[name][field] = value
    for name, method in plan.methods.items():
        if method.choices_of is not None:
            choices[name] = dict(choices[method.choices_of])
    return choices, trials
