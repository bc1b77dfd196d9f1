"""Pictures of results: confusion matrix, accuracy by class, base against novel, similarity against gain."""

import itertools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..extras import how_to_install, import_extra, is_installed
from ..printing import figure_text, get_logger, without_latex, write_figure
from ..whole_files import make_folder, written_whole

logger = get_logger(__name__)

# Okabe and Ito's palette: told apart by readers with color-vision deficiency.
BLUE, ORANGE, GRAY = "#0072B2", "#D55E00", "#7F7F7F"
# Above this many classes, tick labels would run into each other.
MAX_TICK_LABELS = 60
MAX_BARS = 60
# Above this many classes, a cell of a matrix would be smaller than a pixel.
MAX_CELLS = 1000


def can_plot() -> bool:
    """Whether matplotlib is installed; says what is missing where it is not, and nothing is drawn."""
    if is_installed("plots"):
        return True
    logger.warning("No plots are drawn, since matplotlib is not installed: %s", how_to_install("plots"))
    return False


def new_axes(width: float, height: float, **subplots: Any) -> tuple[Any, Any]:
    """A figure of matplotlib's, without a window, and its axes.

    Args:
        width: in inches.
        height: in inches.
        subplots: options of `Figure.subplots`, for several axes.

    Raises:
        ImportError: matplotlib is not installed.
    """
    figure = import_extra("plots", "matplotlib.figure").Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(**subplots)


def plot_confusion(confusion: Any, labels: Sequence[str], path: str | os.PathLike, *, title: str) -> Path:
    """Confusion matrix, each row (true class) as shares of its clips.

    Args:
        confusion: sparse counts, see `confusion_counts`; of more than `MAX_CELLS` classes, those above zero are
            points.
        labels: the classes.
        path: the file.
        title: above the picture.
    """
    shares = confusion.astype(np.float64)
    shares.data /= confusion.sum(axis=1)[confusion.row]
    side = float(np.clip(0.28 * len(labels), 4.0, 10.0))
    figure, axes = new_axes(side + 2.2, side + 1.2)
    from matplotlib.colors import PowerNorm

    # A square root of the shares, so that rare confusions show beside the diagonal.
    colors = {"cmap": "Blues", "norm": PowerNorm(0.5, vmin=0, vmax=1)}
    if len(labels) <= MAX_CELLS:
        image = axes.imshow(shares.toarray(), interpolation="nearest", **colors)
    else:
        image = axes.scatter(shares.col, shares.row, c=shares.data, s=4, marker="s", **colors)
        axes.set(xlim=(-0.5, len(labels) - 0.5), ylim=(len(labels) - 0.5, -0.5), aspect="equal")
    if len(labels) <= MAX_TICK_LABELS:
        size = 9 if len(labels) <= 30 else 6
        axes.set_xticks(range(len(labels)), [_short(text) for text in labels], rotation=90, fontsize=size)
        axes.set_yticks(range(len(labels)), [_short(text) for text in labels], fontsize=size)
    axes.set(xlabel="predicted", ylabel="true", title=figure_text(title))
    figure.colorbar(image, ax=axes, label="share of the true class's clips", shrink=0.8)
    return save_figure(figure, path)


def plot_class_accuracies(
    accuracies: np.ndarray, labels: Sequence[str], path: str | os.PathLike, *, title: str
) -> Path:
    """Bars of top-1 by class, best first; of more than `MAX_BARS` classes the best and the worst."""
    known = np.flatnonzero(np.isfinite(accuracies))
    order = known[np.argsort(-accuracies[known], kind="stable")]
    if len(order) > MAX_BARS:
        order = np.concatenate([order[: MAX_BARS // 2], order[-MAX_BARS // 2 :]])
        title = f"{title} (best and worst of {len(known)} classes)"
    figure, axes = new_axes(7.0, max(2.5, 0.22 * len(order) + 1.2))
    axes.barh(range(len(order)), 100 * accuracies[order], color=BLUE)
    axes.axvline(100 * float(np.mean(accuracies[known])), color=ORANGE, label="mean over classes")
    axes.set_yticks(range(len(order)), [_short(labels[index]) for index in order], fontsize=8)
    axes.invert_yaxis()
    axes.margins(y=0.01)
    axes.set(xlabel="top-1 accuracy (%)", xlim=(0, 100), title=figure_text(title))
    axes.legend(loc="lower right")
    return save_figure(figure, path)


def plot_base_novel(
    ours: Mapping[str, tuple[float, float]],
    published: Mapping[str, Sequence[float]],
    path: str | os.PathLike,
    *,
    title: str,
) -> Path:
    """Base against novel accuracy (percent), published methods in gray, lines of equal harmonic mean."""
    figure, axes = new_axes(7.0, 5.5)
    points = {**{name: tuple(row[:2]) for name, row in published.items()}, **ours}
    values = np.array(list(points.values()))
    margin = max(2.0, 0.15 * float(np.ptp(values)))
    low, high = np.maximum(values.min(axis=0) - margin, 0), np.minimum(values.max(axis=0) + margin, 100)
    base, novel = np.meshgrid(np.linspace(low[0], high[0], 200), np.linspace(low[1], high[1], 200))
    with np.errstate(invalid="ignore", divide="ignore"):
        harmonic = np.nan_to_num(2 * base * novel / (base + novel))
    lines = axes.contour(base, novel, harmonic, levels=8, colors="#CCCCCC", linewidths=0.8)
    with without_latex():  # It measures its texts at once.
        axes.clabel(lines, fmt="HM %.0f", fontsize=7)
    for name, (x, y, *_) in published.items():
        axes.scatter(x, y, color=GRAY, s=30)
        axes.annotate(
            figure_text(name), (x, y), xytext=(5, -9), textcoords="offset points", fontsize=8, color="#444444"
        )
    # Ours in a legend: they often lie on top of each other, and their names are long.
    for marker, (name, point) in zip(itertools.cycle("*DsP^v"), ours.items()):
        axes.scatter(
            *point,
            marker=marker,
            s=110 if marker == "*" else 45,
            color=ORANGE,
            alpha=0.8,
            label=figure_text(name),
            zorder=3,
        )
    figure.legend(loc="outside lower center", fontsize=8, ncols=2)
    axes.set(xlabel="base top-1 (%)", ylabel="novel top-1 (%)", title=figure_text(title))
    return save_figure(figure, path)


def plot_similarity_gain(rows: Sequence[Mapping[str, Any]], path: str | os.PathLike, *, title: str) -> Path:
    """Gain over frozen CLIP (points) against the similarity of the label sets; rows of `similarity_table`."""
    figure, axes = new_axes(6.5, 4.5)
    axes.axhline(0, color=GRAY, linewidth=0.8)
    for row in rows:
        axes.scatter(row["similarity"], row["gain"], color=BLUE if row["gain"] >= 0 else ORANGE, zorder=3)
        axes.annotate(
            figure_text(row["name"]),
            (row["similarity"], row["gain"]),
            xytext=(5, 5),
            textcoords="offset points",
            fontsize=8,
        )
    axes.margins(0.15)
    axes.set(
        xlabel="similarity to the training labels (mean of the best cosines)",
        ylabel="top-1 gain over frozen CLIP (points)",
        title=figure_text(title),
    )
    return save_figure(figure, path)


def _short(text: str) -> str:
    return figure_text(text if len(text) <= 32 else text[:31] + "…")


def save_figure(figure: Any, path: str | os.PathLike, *, overwrite: bool = True) -> Path:
    """Write a figure, and its folder where it is missing; returns the path. See `written_whole`."""
    path = Path(path)
    make_folder(path.parent)
    # Without the time of day in it, the same numbers give the same file.
    with written_whole(path, overwrite=overwrite) as part:
        write_figure(figure, part, dpi=130, metadata={"Software": None})
    return path
