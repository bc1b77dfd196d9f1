"""The paper's experiment in miniature: what distillation keeps and what fine-tuning forgets, on moving shapes.

    plan (plans/*.yaml) -> worlds (a small CLIP each, videos) -> jobs (one fine-tuning each, and what is measured of
    it) -> choices (on the validation world) -> jobs on the test worlds -> statistics -> report and plots

Run by `froster study`; everything that is done is found again by the next run.
"""

from .plan import StudyPlan, load_plan
from .running import run_study

__all__ = ["StudyPlan", "load_plan", "run_study"]
