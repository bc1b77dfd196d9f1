"""Pictures of a study: harmonic means with intervals, base against novel, and the harmonic mean along each grid."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ..evaluation.plots import BLUE, GREY, ORANGE, save_figure
from .statistics import Estimate

GRID_LABELS = {"learning_rate": "learning rate", "beta": "β (weight of the distillation)", "alpha": "α (residual)"}


def plot_harmonic_means(estimates: Mapping[str, Estimate], path: Path, *, reference: str) -> Path:
    """Bars of HM (percent), best first, with 95% intervals where there are any."""
    names = sorted(estimates, key=lambda name: -estimates[name].mean)
    figure = Figure(figsize=(7.5, 0.36 * len(names) + 1.3), layout="constrained")
    axes = figure.subplots()
    means = [100 * estimates[name].mean for name in names]
    errors = [100 * estimates[name].half_width for name in names]
    colors = [ORANGE if name == reference else GREY if name == "frozen" else BLUE for name in names]
    axes.barh(range(len(names)), means, xerr=errors, color=colors, ecolor="black", capsize=2.5)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set(xlabel="harmonic mean of base and novel top-1 (%), 95% interval", xlim=(0, 100))
    return save_figure(figure, path)


def plot_base_against_novel(
    base: Mapping[str, Estimate], novel: Mapping[str, Estimate], path: Path, *, reference: str
) -> Path:
    """One point a method: base and novel top-1 (percent)."""
    figure = Figure(figsize=(7.5, 5.5), layout="constrained")
    axes = figure.subplots()
    # Numbers in the picture and names beside it: the methods lie too close for names.
    order = sorted(base, key=lambda name: -novel[name].mean)
    for number, name in enumerate(order, start=1):
        x, y = 100 * base[name].mean, 100 * novel[name].mean
        color = ORANGE if name == reference else GREY if name == "frozen" else BLUE
        axes.scatter(x, y, color=color, zorder=3, label=f"{number}  {name}")
        axes.annotate(str(number), (x, y), xytext=(4, 4), textcoords="offset points", fontsize=9)
    axes.margins(0.1)
    axes.grid(linewidth=0.4)
    axes.set(xlabel="base top-1 (%)", ylabel="novel top-1 (%)")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=9)
    return save_figure(figure, path)


def plot_grid(trials: Sequence[Mapping[str, Any]], path: Path) -> Path:
    """HM on the validation world along each grid that was tried."""
    fields = [name for name in GRID_LABELS if any(trial["field"] == name for trial in trials)]
    methods = list(dict.fromkeys(trial["method"] for trial in trials))
    figure = Figure(figsize=(4.2 * len(fields), 3.8), layout="constrained")
    panels = figure.subplots(1, len(fields), sharey=True, squeeze=False)[0]
    for axes, name in zip(panels, fields):
        for number, method in enumerate(methods):
            own = [trial for trial in trials if (trial["method"], trial["field"]) == (method, name)]
            own.sort(key=lambda trial: trial["value"])
            if own:
                values, hm = [trial["value"] for trial in own], [100 * trial["hm"] for trial in own]
                axes.plot(values, hm, marker="o", markersize=4, color=f"C{number}", label=method)
        tried = sorted({trial["value"] for trial in trials if trial["field"] == name})
        axes.set_xscale("log")
        axes.set_xticks(tried, [f"{value:g}" for value in tried], rotation=45, fontsize=8)
        axes.minorticks_off()
        axes.grid(linewidth=0.4)
        axes.set(xlabel=GRID_LABELS[name])
        axes.legend(fontsize=8)
    panels[0].set_ylabel("HM on the validation world (%)")
    return save_figure(figure, path)
