"""A timeline as a file: JSON and CSV for programs, SRT and WebVTT for players, PNG for people."""

import csv
import html
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from ..printing import json_text, printable
from ..whole_files import write_text_whole, written_whole
from .timeline_froster import Timeline, TimelineSegment

# Labels with the highest scores that a picture can tell apart.
LABELS_IN_PLOT = 8
# A spreadsheet takes a cell that begins so for a formula, which may fetch addresses.
FORMULA_BEGINNINGS = ("=", "+", "-", "@", "＝", "＋", "－", "＠")


def write_timeline(timeline: Timeline, path: str | os.PathLike[str]) -> None:
    """Write a timeline in the format that the file's ending names: .json, .csv, .srt, .vtt or .png.

    The file appears when it is whole; where it cannot be written, an old one stays.

    Raises:
        ValueError: another ending, or scores that are not finite.
        OSError: the file cannot be written.
    """
    check_format(path)
    path = Path(path)
    WRITERS[path.suffix.lower()](timeline, path)


def check_format(path: str | os.PathLike[str]) -> None:
    """Refuse a file name whose ending names no format.

    Raises:
        ValueError: it does not.
    """
    path = Path(path)
    if path.suffix.lower() not in WRITERS:
        raise ValueError(f"{path.name!r}: a timeline is written as {', '.join(WRITERS)}.")


def write_json(timeline: Timeline, path: Path) -> None:
    """Segments, and the scores of all windows, a line each."""
    with written_whole(path) as part, open(part, "w", encoding="utf-8") as file:
        file.writelines(json_pieces(timeline, separator="\n"))


def json_pieces(timeline: Timeline, *, separator: str, encoding: str = "utf-8") -> Iterator[str]:
    """The JSON of `timeline.to_dict()` a window at a time: the scores of all may be more than memory holds as text.

    Args:
        timeline: what is written.
        separator: white space between windows, and at the end of what stands before and behind them.
        encoding: of the output.

    Raises:
        ValueError: a score is infinite or NaN, which JSON does not have.
    """
    outline = json_text(timeline.outline(), encoding=encoding)
    yield f'{outline.removesuffix("}")}, "windows": ['
    for position, window in enumerate(timeline.window_scores()):
        yield f"{',' * (position > 0)}{separator}{json_text(window, encoding=encoding)}"
    yield f"{separator}]}}{separator}"


def write_csv(timeline: Timeline, path: Path) -> None:
    """One segment per line.

    A label that a spreadsheet would take for a formula has an apostrophe before it; control characters and line breaks
    in labels are written as escapes.
    """
    with written_whole(path) as part, open(part, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["start_seconds", "end_seconds", "label", "score"])
        for segment in timeline.segments:
            seconds = [f"{segment.start_seconds:.3f}", f"{segment.end_seconds:.3f}"]
            writer.writerow([*seconds, _cell(segment.label), f"{segment.score:.4f}"])


def write_srt(timeline: Timeline, path: Path) -> None:
    """One subtitle per segment."""
    entries = [
        f"{number}\n{_span(segment, ',')}\n{_one_line(segment.label)}\n"
        for number, segment in enumerate(timeline.segments, start=1)
    ]
    write_text_whole(path, "\n".join(entries))


def write_vtt(timeline: Timeline, path: Path) -> None:
    """One WebVTT cue per segment."""
    cues = [
        f"{_span(segment, '.')}\n{html.escape(_one_line(segment.label), quote=False)}\n"
        for segment in timeline.segments
    ]
    write_text_whole(path, "\n".join(["WEBVTT\n", *cues]))


def write_png(timeline: Timeline, path: Path) -> None:
    """Scores of the leading labels over time, the segments below, frames of the video above."""
    from matplotlib.figure import Figure

    leading = timeline.scores.max(0).values.topk(min(LABELS_IN_PLOT, len(timeline.labels))).indices.tolist()
    # The legend lists them as they were given.
    leading.sort()
    colours = {timeline.labels[index]: f"C{rank}" for rank, index in enumerate(leading)}
    figure = Figure(figsize=(12, 5), layout="constrained")
    frames_axis, scores_axis, segments_axis = figure.subplots(3, 1, height_ratios=[1.2, 3, 0.5], sharex=True)

    width = timeline.duration_seconds / max(len(timeline.thumbnails), 1)
    for place, (_, frame) in enumerate(timeline.thumbnails):
        # Evenly spread over the stream, so each has its share of the axis and none covers another.
        left = timeline.start_seconds + place * width
        # In a box of its own: one pixel is as wide as it is high, whatever a second measures.
        inset = frames_axis.inset_axes((left, 0, width, 1), transform=frames_axis.transData)
        inset.imshow(frame.permute(1, 2, 0).numpy())
        inset.set_axis_off()
    frames_axis.set(yticks=[], ylim=(0, 1))
    frames_axis.spines[:].set_visible(False)

    centres = [(start + end) / 2 for start, end in timeline.windows]
    marker = "o" if len(centres) == 1 else None
    for index in leading:
        label = timeline.labels[index]
        name = _plain(label)
        scores_axis.plot(centres, timeline.scores[:, index].numpy(), color=colours[label], label=name, marker=marker)
    scores_axis.set_ylabel("score")
    if timeline.scores.min() >= 0:
        scores_axis.set_ylim(bottom=0)
    scores_axis.legend(loc="upper left", bbox_to_anchor=(1, 1))

    for segment in timeline.segments:
        span = (segment.start_seconds, segment.end_seconds - segment.start_seconds)
        segments_axis.broken_barh([span], (0, 1), color=colours.get(segment.label, "grey"))
    span = (timeline.start_seconds, timeline.start_seconds + timeline.duration_seconds)
    segments_axis.set(yticks=[], ylim=(0, 1), xlim=span, xlabel="seconds")
    with written_whole(path) as part:
        figure.savefig(part, dpi=100)


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
    return re.sub("-{2,}>", "->", printable(" ".join(label.split())))


def _cell(label: str) -> str:
    return "'" * label.lstrip().startswith(FORMULA_BEGINNINGS) + printable(label)


def _plain(label: str) -> str:
    """matplotlib reads text between dollar signs as mathematics, and hides names that start with an underscore."""
    return " " * label.startswith("_") + printable(label).replace("$", r"\$")
