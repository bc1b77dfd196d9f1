"""The report of own videos for people: `result.md`, and `index.html` with pictures of the videos that went wrong.

The page is one file that any browser shows, with the plots beside it; nothing is fetched and nothing runs. All text of
videos and labels is foreign: it is printed through `printable` and escaped.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from PIL import Image

from ..data.video_table import VIDEO_COLUMN
from ..printing import get_logger, html_text, printable
from ..processing.processing_froster import FrosterProcessor
from ..video.types import VideoDecodeError
from ..whole_files import write_text_whole
from .explaining import shown_frames
from .metrics import METRICS
from .report import cell, markdown_table, one_decimal

logger = get_logger(__name__)

# Pictures of more mistakes than these would make the page slow; the others are in `result.json`.
MAX_PICTURES = 120
PICTURE_SIDE = 160
CALIBRATED_FOLDER = "calibrated"
CHOSEN_FOLDER = "chosen_templates"

STYLE = """
:root { color-scheme: light dark; --line: #8884; --muted: #777; --bar: #0072B2; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; padding: 1rem; max-width: 70rem; }
h1 { font-size: 1.5rem; overflow-wrap: anywhere; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: right; }
th:first-child, td:first-child { text-align: left; overflow-wrap: anywhere; min-width: 9rem; }
th { font-weight: 600; vertical-align: bottom; min-width: 3rem; }
.classes td:last-child { min-width: 8rem; text-align: left; }
.bar { height: .7rem; background: var(--bar); border-radius: 2px; }
.plots { display: flex; flex-wrap: wrap; gap: 1rem; } .plots img { max-width: 100%; height: auto; background: #fff; }
.mistakes { display: grid; grid-template-columns: repeat(auto-fill, minmax(10rem, 1fr)); gap: 1rem; padding: 0; }
.mistakes li { list-style: none; font-size: .85rem; overflow-wrap: anywhere; }
.mistakes img, .none { width: 100%; aspect-ratio: 1; object-fit: cover; border-radius: 4px; background: #8882; }
.none { display: grid; place-items: center; color: var(--muted); } .file { color: var(--muted); }
"""


def rows_of_models(report: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """The table of the models: its heads, and a row of texts per model."""
    first = next(iter(report["models"].values()))
    shown = [name for name in METRICS if name in first]
    several = len(report["models"]) > 1
    of_right = "top1" if "top1" in first else "best_label_is_there"
    heads = ["model", *(METRICS[name].heading for name in shown), f"95 % interval of {METRICS[of_right].heading}"]
    rows = []
    for name, entry in report["models"].items():
        numbers = [one_decimal(entry.get(key)) for key in shown]
        row = [name, *numbers, "{:.1f} to {:.1f}".format(*entry["interval"])]
        if several:
            row.append(difference_in_words(entry) if "difference" in entry else "")
        rows.append(row)
    return [*heads, *(["against the first, paired (95 % interval)"] if several else [])], rows


def difference_in_words(entry: Mapping[str, Any]) -> str:
    """Such as `+4.0 (-2.1 to +9.8)`."""
    ends = entry["difference_interval"]
    said = "too few videos to say" if ends is None else "{:+.1f} to {:+.1f}".format(*ends)
    return f"{entry['difference']:+.1f} ({said})"


def confusion_in_words(entry: Mapping[str, Any]) -> str:
    """Such as `3 of 12 videos of "a" were taken for "b"`."""
    return f'{entry["count"]} of {entry["of"]} videos of "{entry["true"]}" were taken for "{entry["predicted"]}"'


def counts_in_words(report: Mapping[str, Any]) -> str:
    """One sentence on what was measured."""
    first = next(iter(report["models"].values()))
    undecodable = first["num_undecodable"]
    failed = f"; {undecodable} could not be decoded and count as wrong" if undecodable else ""
    said = f", {first['descriptions']}" if first["descriptions"] else ""
    by_class = first["class_accuracies"] if "class_accuracies" in first else first["average_precisions"]
    empty = sum(value is None for value in by_class.values())
    unseen = f" ({empty} of them of no video)" if empty else ""
    return f"{first['num_clips']} videos, {first['num_labels']} labels{unseen}{said}{failed}. Accuracies in percent."


def markdown_of_list(report: Mapping[str, Any]) -> str:
    """The report as Markdown."""
    heads, rows = rows_of_models(report)
    lines = [f"# {cell(report['protocol']['name'])}", "", counts_in_words(report), ""]
    lines += markdown_table(heads, [[cell(text) for text in row] for row in rows])
    if report["confusions"]:
        lines += ["", "Most frequent confusions of the first model:", ""]
        lines += [f"- {cell(confusion_in_words(entry))}" for entry in report["confusions"]]
    if report["calibration"] is not None:
        lines += [
            "",
            f"Calibrated on this list, and saved in `{CALIBRATED_FOLDER}`. Its threshold, "
            f"{report['calibration']['threshold']:.3f}, has the best F1 on these very videos: measure it on others.",
        ]
    lines += ["", f"Versions: {', '.join(f'{name} {version}' for name, version in report['versions'].items())}.", ""]
    return "\n".join(lines)


def write_page(
    report: Mapping[str, Any],
    table: Dataset,
    *,
    plots: Mapping[str, Sequence[str]],
    processor: FrosterProcessor,
    folder: Path,
) -> None:
    """Writes `index.html`.

    Args:
        report: as `evaluate_videos` returns it.
        table: {video, label}, of which the mistakes are rows.
        plots: pictures by model, relative to the folder.
        processor: reads a frame of each video that went wrong.
        folder: folder of the result.
    """
    title = printable(report["protocol"]["name"])
    heads, rows = rows_of_models(report)
    parts = [
        f"<h1>How good on {html_text(title)}?</h1>",
        f"<p>{html_text(counts_in_words(report))}</p>",
        _table(heads, rows),
    ]
    if report["confusions"]:
        parts.append("<h2>Most frequent confusions</h2>")
        words = (confusion_in_words(entry) for entry in report["confusions"])
        parts.append("<ul>" + "".join(f"<li>{html_text(line)}</li>" for line in words) + "</ul>")
    parts += _mistakes(report["mistakes"], table, processor)
    parts += _classes(next(iter(report["models"].values())))
    for name, pictures in plots.items():
        parts.append(f"<h2>{html_text(name)}</h2><div class=plots>")
        parts += [f'<img src="{html_text(picture)}" alt="{html_text(Path(picture).stem)}">' for picture in pictures]
        parts.append("</div>")
    head = (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html_text(title)}</title><style>{STYLE}</style>"
    )
    write_text_whole(folder / "index.html", "\n".join([head, *parts, "</html>\n"]))


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["<tr>" + "".join(f"<th>{html_text(head)}</th>" for head in heads) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{html_text(text)}</td>" for text in row) + "</tr>" for row in rows]
    return f"<div class=scroll><table>{''.join(lines)}</table></div>"


def _classes(numbers: Mapping[str, Any]) -> list[str]:
    """A row per label, worst first, each with a bar."""
    name, unit = (
        ("class_accuracies", "top-1 (%)") if "class_accuracies" in numbers else ("average_precisions", "AP (%)")
    )
    known = sorted((value, label) for label, value in numbers[name].items() if value is not None)
    rows = "".join(
        f"<tr><td>{html_text(label)}</td><td>{value:.1f}</td>"
        f"<td><div class=bar style='width:{value:.0f}%'></div></td></tr>"
        for value, label in known
    )
    head = f"<tr><th>label</th><th>{unit}</th><th></th></tr>"
    return [
        "<h2>Label by label, worst first</h2>",
        f"<div class=scroll><table class=classes>{head}{rows}</table></div>",
    ]


def _mistakes(mistakes: Sequence[Mapping[str, Any]], table: Dataset, processor: FrosterProcessor) -> list[str]:
    if not mistakes:
        return ["<h2>No video went wrong</h2>"]
    shown = mistakes[:MAX_PICTURES]
    more = f"; the first {len(shown)} are shown, all are in result.json" if len(mistakes) > len(shown) else ""
    parts = [f"<h2>{len(mistakes)} videos went wrong{more}</h2><ul class=mistakes>"]
    for entry in shown:
        picture = _picture(table[entry["row"]][VIDEO_COLUMN], processor)
        true = " + ".join(entry["true"]) or "none of the labels"
        said = (
            "could not be decoded"
            if entry["predicted"] is None
            else f"taken for <b>{html_text(entry['predicted'])}</b> ({entry['score']:.2f})"
        )
        file = html_text(Path(entry["video"]).name)
        parts.append(f"<li>{picture}<div><b>{html_text(true)}</b> {said}</div><div class=file>{file}</div></li>")
    return [*parts, "</ul>"]


def _picture(video: Any, processor: FrosterProcessor) -> str:
    """The frame from the middle of a video, as the model sees it, in the page itself."""
    try:
        options = {"num_frames": 1, "sampling": "uniform", "num_views": 1, "num_crops": 1}
        pixels = processor.video_processor(video, return_tensors="pt", **options)["pixel_values_videos"][0]
    except (VideoDecodeError, OSError, TypeError, ValueError) as error:
        logger.info("There is no picture of a video: %s", error)
        return "<div class=none>no picture</div>"
    picture = Image.fromarray(shown_frames(pixels, processor)[0]).resize((PICTURE_SIDE, PICTURE_SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=80)
    return f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}">'
