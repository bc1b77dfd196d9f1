"""A timeline as a file: JSON and CSV for programs, SRT and WebVTT for players, PNG for people."""

import csv
import html
import math
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from ..extras import import_extra
from ..printing import figure_text, json_text, printable, write_figure
from ..whole_files import written_whole
from .timeline_froster import Timeline, TimelineSegment

# Labels with the highest scores that a picture can tell apart.
LABELS_IN_PLOT = 9
# Of matplotlib's ten, without the gray; the labels without one of their own are gray.
COLORS = {
    "blue": "C0",
    "orange": "C1",
    "green": "C2",
    "red": "C3",
    "purple": "C4",
    "brown": "C5",
    "pink": "C6",
    "yellow": "C8",
    "cyan": "C9",
}
OTHER_COLOR = "0.75"
# Steps between ticks that people count in.
TICK_SECONDS = (0.1, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 21_600, 43_200)
# Of the labels in the JSON of all windows, on the disk: a day at half a second with 256 labels of 100 characters each.
MOST_CHARACTERS = 2**32
# Of fewer windows, as many in each as 256 labels of 256 characters have, beside what any video may have.
MOST_CHARACTERS_OF_A_WINDOW, MOST_CHARACTERS_OF_ANY = 2**16, 2**26
SRT_MARKUP = str.maketrans("<{}", "‹()")
# A spreadsheet takes a cell that begins so for a formula, which may fetch addresses. Where the comma is a decimal sign
# it splits lines at semicolons, and heeds no quotes within a cell.
FORMULA_BEGINNING = re.compile(r"""^(?=\s*[=+\-@＝＋－＠])|(?<=;)(?=[\s"]*[=+\-@＝＋－＠])""")


def write_timeline(timeline: Timeline, path: str | os.PathLike[str], *, overwrite: bool = True) -> None:
    """Write a timeline in the format that the file's ending names: .json, .csv, .srt, .vtt or .png.

    The file appears when it is whole; where it cannot be written, an old one stays.

    Args:
        timeline: what is written.
        path: of the file.
        overwrite: whether a file that is there by then is replaced.

    Raises:
        ValueError: another ending, or scores that are not finite.
        ResultExistsError: a file is there, which stays; names where the timeline is instead.
        OSError: the file cannot be written.
    """
    check_format(path)
    with written_whole(path, overwrite=overwrite) as part:
        WRITERS[part.suffix.lower()](timeline, part)


def check_format(path: str | os.PathLike[str]) -> None:
    """Refuse a file name whose ending names no format, or one that needs what is not installed.

    Raises:
        ValueError: it does not.
        ImportError: a picture, without matplotlib.
    """
    path = Path(path)
    if path.suffix.lower() not in WRITERS:
        raise ValueError(f"{path.name!r}: a timeline is written as {', '.join(WRITERS)}.")
    if path.suffix.lower() == ".png":
        import_extra("plots")


def write_json(timeline: Timeline, path: Path) -> None:
    """Segments, and the best scores of all windows, a line each."""
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(json_pieces(timeline, separator="\n"))


def json_pieces(timeline: Timeline, *, separator: str, encoding: str = "utf-8") -> Iterator[str]:
    """The JSON of `timeline.to_dict()` a window at a time: the scores of all may be more than memory holds as text.

    Args:
        timeline: what is written.
        separator: white space between windows, and at the end of what stands before and behind them.
        encoding: encoding of the output.

    Raises:
        ValueError: a score is infinite or NaN, which JSON does not have; or the labels, which each window repeats,
            would fill the disk.
    """
    # With escapes, of six characters each, in which one odd label has all of its window written.
    lengths = torch.tensor([len(json_text(label, encoding="ascii")) - 2 for label in timeline.labels])
    counts = timeline.scores.indices.flatten().bincount(minlength=len(lengths))
    most = min(MOST_CHARACTERS, MOST_CHARACTERS_OF_ANY + MOST_CHARACTERS_OF_A_WINDOW * len(timeline.windows))
    if (characters := int((counts * lengths).sum())) > most:
        raise ValueError(
            f"The labels that score highest, written for each of {len(timeline.windows):,} windows, are "
            f"up to {characters:,} characters; up to {most:,} are written. Take fewer or shorter labels, or a "
            "longer stride."
        )
    outline = json_text(timeline.outline(), encoding=encoding)
    yield f'{outline.removesuffix("}")}, "windows": ['
    for position, window in enumerate(timeline.window_scores()):
        yield f"{',' * (position > 0)}{separator}{json_text(window, encoding=encoding)}"
    yield f"{separator}]}}{separator}"


def write_csv(timeline: Timeline, path: Path) -> None:
    """One segment per line.

    What a spreadsheet would take for a formula, in a label or behind a semicolon in it, has an apostrophe before it;
    control characters and line breaks in labels are written as escapes.
    """
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["start_seconds", "end_seconds", "label", "score", "contrast"])
        for segment in timeline.segments:
            seconds = [f"{segment.start_seconds:.3f}", f"{segment.end_seconds:.3f}"]
            contrast = "" if segment.contrast is None else f"{segment.contrast:.4f}"
            writer.writerow([*seconds, spreadsheet_cell(segment.label), f"{segment.score:.4f}", contrast])


def write_srt(timeline: Timeline, path: Path) -> None:
    """One subtitle per segment.

    Players read `<...>` and `{...}` as formatting, and the format has no escape: `<` becomes `‹`, and `{}` `()`.
    """
    entries = [
        f"{number}\n{_span(segment, ',')}\n{_one_line(segment.label).translate(SRT_MARKUP)}\n"
        for number, segment in enumerate(timeline.segments, start=1)
    ]
    path.write_text("\n".join(entries), encoding="utf-8", newline="")


def write_vtt(timeline: Timeline, path: Path) -> None:
    """One WebVTT cue per segment."""
    cues = [
        f"{_span(segment, '.')}\n{html.escape(_one_line(segment.label), quote=False)}\n"
        for segment in timeline.segments
    ]
    path.write_text("\n".join(["WEBVTT\n", *cues]), encoding="utf-8", newline="")


def write_png(timeline: Timeline, path: Path) -> None:
    """Frames of the video, below them the scores of the leading labels over time, and the segments.

    Every color is explained: labels without one of their own are gray together, and counted.
    """
    figures = import_extra("plots", "matplotlib.figure")
    ticker = import_extra("plots", "matplotlib.ticker")

    colors = _leading_labels(timeline)
    others = {segment.label for segment in timeline.segments} - set(colors)
    # With each label for itself, segments overlap: a row for each of the leading labels, and one for all others.
    rows = {label: row for row, label in enumerate(colors)} if timeline.multi_label else {}
    num_rows = len(rows) + bool(others) if timeline.multi_label else 1
    heights = [1.2, 3, max(0.5, 0.25 * num_rows)]
    figure = figures.Figure(figsize=(12, 5 * sum(heights) / 4.7), layout="constrained")
    frames_axis, scores_axis, segments_axis = figure.subplots(3, 1, height_ratios=heights, sharex=True)
    _draw_frames(timeline, frames_axis)
    if timeline.name is not None:
        frames_axis.set_title(_plain(timeline.name), loc="left")
    _draw_scores(timeline, scores_axis, colors, len(others))
    bars: dict[tuple[int, str], list[tuple[float, float]]] = {}
    for segment in timeline.segments:
        place = (rows.get(segment.label, num_rows - 1), colors.get(segment.label, OTHER_COLOR))
        bars.setdefault(place, []).append((segment.start_seconds, segment.end_seconds - segment.start_seconds))
    for (row, color), spans in bars.items():
        segments_axis.broken_barh(spans, (row, 0.9), color=color, edgecolor="white", linewidth=0.5)
    start, end = timeline.start_seconds, timeline.start_seconds + timeline.duration_seconds
    segments_axis.set(yticks=[], ylim=(num_rows, -0.1), xlim=(start, end))
    segments_axis.set_ylabel("segments", rotation=0, horizontalalignment="right", verticalalignment="center")
    segments_axis.xaxis.set_major_locator(ticker.MultipleLocator(_tick_seconds(timeline.duration_seconds)))
    segments_axis.xaxis.set_major_formatter(ticker.FuncFormatter(lambda seconds, _: short_clock(seconds)))
    clock = "hours:minutes:seconds" if end >= 3600 else "minutes:seconds"
    segments_axis.set_xlabel(f"{clock}\n{_plain(timeline.compared_with)}" if timeline.compared_with else clock)
    write_figure(figure, path, dpi=100)


def _leading_labels(timeline: Timeline) -> dict[str, str]:
    """The labels that a picture can tell apart, as they were given, each with its color.

    First those with most seconds of segments, then those with the highest scores.
    """
    seconds: dict[str, float] = {}
    for segment in timeline.segments:
        length = segment.end_seconds - segment.start_seconds
        seconds[segment.label] = seconds.get(segment.label, 0.0) + length
    values, indices = timeline.scores.values.flatten(), timeline.scores.indices.flatten()
    # Of each label first: scores of all windows are too many to sort.
    highest = values.new_full([len(timeline.labels)], -math.inf).scatter_reduce(0, indices, values, "amax")
    found = highest.topk(min(LABELS_IN_PLOT, len(highest)))
    best = {timeline.labels[index]: value for index, value in zip(found.indices.tolist(), found.values.tolist())}
    order = sorted({*seconds, *best}, key=lambda label: (-seconds.get(label, 0.0), -best.get(label, -math.inf)))
    leading = set(order[:LABELS_IN_PLOT])
    return _color_labels([label for label in timeline.labels if label in leading])


def _color_labels(labels: list[str]) -> dict[str, str]:
    """Each label with its color: the one that it names, since a red star drawn blue misleads, or the next free one."""
    named: dict[str, str] = {}
    for label in labels:
        words = re.findall(r"\w+", label.lower())
        free = (word for word in words if word in COLORS and COLORS[word] not in named.values())
        if word := next(free, None):
            named[label] = COLORS[word]
    others = (color for color in COLORS.values() if color not in named.values())
    return {label: named[label] if label in named else next(others) for label in labels}


def _draw_frames(timeline: Timeline, axis: Any) -> None:
    width = timeline.duration_seconds / max(len(timeline.thumbnails), 1)
    for place, (_, frame) in enumerate(timeline.thumbnails):
        # Evenly spread over the stream, so each has its share of the axis and none covers another.
        left = timeline.start_seconds + place * width
        # In a box of its own: one pixel is as wide as it is high, whatever a second measures.
        inset = axis.inset_axes((left, 0, width, 1), transform=axis.transData)
        inset.imshow(frame.permute(1, 2, 0).numpy())
        inset.set_axis_off()
    axis.set(yticks=[], ylim=(0, 1))
    axis.tick_params(bottom=False)
    axis.spines[:].set_visible(False)


def _draw_scores(timeline: Timeline, axis: Any, colors: dict[str, str], num_others: int) -> None:
    centers = [(start + end) / 2 for start, end in timeline.windows]
    marker = "o" if len(centers) == 1 else None
    for label, color in colors.items():
        values = timeline.scores.of(timeline.labels.index(label))
        axis.plot(centers, values.numpy(), color=color, label=_plain(label), marker=marker)
    if num_others:
        # A patch without a place, for the legend.
        axis.fill_between([], [], color=OTHER_COLOR, label=f"and {num_others} more")
    if timeline.threshold is not None:
        axis.axhline(
            timeline.threshold, color="black", linewidth=1, linestyle="--", label=f"threshold {timeline.threshold:.2g}"
        )
    axis.set_ylabel("score")
    if float(timeline.scores.values.min()) >= 0:
        axis.set_ylim(bottom=0)
    axis.grid(axis="x", alpha=0.3)
    axis.tick_params(bottom=False)
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1))


def _tick_seconds(duration_seconds: float) -> float:
    """The smallest round step with which an axis has at most twelve ticks."""
    days = math.ceil(duration_seconds / 12 / 86_400)
    return next((step for step in TICK_SECONDS if duration_seconds / step <= 12), 86_400 * days)


def short_clock(seconds: float, *, with_tenths: bool = False) -> str:
    """5025.5 -> '1:23:45.5', 75 -> '1:15', or '1:15.0' with tenths."""
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    text = f"{minutes // 60}:{minutes % 60:02d}" if minutes >= 60 else f"{minutes}"
    return f"{text}:{rest // 10:02d}" + f".{rest % 10}" * (with_tenths or rest % 10 > 0)


def short_clocks(segment: Any) -> tuple[str, str]:
    """Start and end of anything that has `start_seconds` and `end_seconds`, by `short_clock` with tenths."""
    return (
        short_clock(segment.start_seconds, with_tenths=True),
        short_clock(segment.end_seconds, with_tenths=True),
    )


WRITERS: dict[str, Callable[[Timeline, Path], None]] = {
    ".json": write_json,
    ".csv": write_csv,
    ".srt": write_srt,
    ".vtt": write_vtt,
    ".png": write_png,
}


def _span(segment: TimelineSegment, separator: str) -> str:
    return f"{_clock(segment.start_seconds, separator)} --> {_clock(segment.end_seconds, separator)}"


def _clock(seconds: float, separator: str) -> str:
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}{separator}{rest % 1000:03d}"


def _one_line(label: str) -> str:
    """Without line ends and arrows, which would end a subtitle."""
    return re.sub("(?<!-)-{2,}>", "->", printable(" ".join(label.split())))


def spreadsheet_cell(label: str) -> str:
    """Foreign text for a .csv file: printable, and no formula where it is split at commas or at semicolons."""
    return FORMULA_BEGINNING.sub("'", printable(label))


def _plain(label: str) -> str:
    """Text of a figure; matplotlib hides names in legends that start with an underscore."""
    return " " * label.startswith("_") + figure_text(label)
