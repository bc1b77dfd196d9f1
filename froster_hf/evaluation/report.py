"""A result folder: `result.json` with all behind the numbers, `result.md` beside the published rows, `plots/`."""

import importlib.metadata
import json
import math
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from .. import __version__
from ..printing import LONGEST_MESSAGE, LONGEST_NAME, json_text, markdown_text, printable
from ..video.backends import BACKENDS
from ..whole_files import make_folder, write_text_whole
from .metrics import metrics_of
from .plots import can_plot, plot_base_novel, plot_class_accuracies, plot_confusion
from .protocols import PartResult

PACKAGES = ("torch", "transformers", "datasets", "accelerate", "numpy")
COLUMNS = {
    "base_to_novel": ("base", "novel", "HM"),
    "cross_dataset": ("full set", "splits"),
    "random_labels": ("mean of the splits",),
}


@cache
def published_results() -> dict[str, Any]:
    """Published top-1 in percent: {protocol: {data set: {method: [numbers]}}}.

    Under `label_text`: how the labels were written, of methods that did not take the data set's names; that alone is
    worth two points and more.
    """
    return json.loads(files(__package__).joinpath("published_results.json").read_text(encoding="utf-8"))


def package_versions() -> dict[str, str]:
    """Versions of the packages that a number depends on."""
    versions = {"python": platform.python_version(), "froster-hf": __version__}
    for package in (*PACKAGES, *(name for backend in BACKENDS.values() for name in backend.distributions)):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def part_report(result: PartResult) -> dict[str, Any]:
    """A part's numbers as JSON values, accuracies in percent."""
    return {
        **{
            name: metric.shown(result.metrics[name], digits=2)
            for name, metric in metrics_of("one_label", shown_in="report").items()
        },
        "num_clips": result.num_clips,
        "num_undecodable": result.num_undecodable,
        "num_labels": len(result.labels),
        "class_accuracies": {text: percent(value) for text, value in zip(result.labels, result.class_accuracies)},
    }


def percent(share: float | None) -> float | None:
    """A share in percent with two decimals; None for a value that is not known."""
    return None if share is None or math.isnan(share) else round(100 * float(share), 2)


def percent_interval(ends: Sequence[float]) -> list[float | None] | None:
    """Both ends in percent; None where nothing can be said of them."""
    return None if any(map(math.isnan, ends)) else [percent(end) for end in ends]


def markdown_report(report: Mapping[str, Any]) -> str:
    """The report as Markdown: our rows in bold beside the published ones, then what they rest on."""
    protocol = report["protocol"]
    columns = COLUMNS[protocol["protocol"]]
    published = published_results().get(protocol["protocol"], {}).get(protocol["dataset"], {})
    rows = [[f"{cell(name)} (published)", *map(one_decimal, row)] for name, row in published.items()]
    for name, result in report["results"].items():
        rows.append([f"**{text}**" for text in (cell(name), *_own_row(protocol["protocol"], result))])
    lines = [f"# {cell(protocol['name'])}", "", "Top-1 accuracy in percent.", ""]
    lines += markdown_table(["method", *columns], rows)
    texts = published_results()["label_text"]
    views = f"{protocol['num_views']} views x {protocol['num_crops']} crops"
    lines += [
        "",
        f"Protocol: {protocol['protocol'].replace('_', '-')}, {protocol['dataset']}, {views}, softmax averaged.",
    ]
    if report["descriptions"]:
        lines.append(f"Labels: the data set's names and {report['descriptions']}.")
    rephrased = [f"{cell(name)} ({texts[name]})" for name in published if name in texts]
    lines.append(
        f"Published with labels other than the data set's names: {', '.join(rephrased)}." if rephrased else ""
    )
    for name, part in next(iter(report["results"].values()))["parts"][0].items():
        undecodable = (
            f", {part['num_undecodable']} could not be decoded (counted as wrong)" if part["num_undecodable"] else ""
        )
        lines.append(f"- {name}: {part['num_clips']} clips, {part['num_labels']} labels{undecodable}.")
    for name, found in report["count_differences"].items():
        told = ", ".join(f"{entry['found']} {key}, published {entry['published']}" for key, entry in found.items())
        lines.append(f"- **Not comparable with the published numbers**: {name} has {told}.")
    lines += [f"- {cell(note, limit=LONGEST_MESSAGE)}" for note in report["notes"]]
    lines += [
        "",
        f"Checkpoints: {', '.join(f'`{entry[:12]}`' for entry in report['checkpoints'])} (SHA-256 of the weights).",
    ]
    lines += [
        f"Data: `{report['data'][:12]}`. Versions: {', '.join(f'{k} {v}' for k, v in report['versions'].items())}.",
        "",
    ]
    return "\n".join(lines)


def write_report(
    report: Mapping[str, Any], details: Mapping[str, Sequence[PartResult]], folder: str | os.PathLike
) -> None:
    """Writes `result.json`, `result.md` and `plots/`.

    Args:
        report: as `evaluate_protocol` returns it.
        details: the first row's parts, for the plots by class.
        folder: folder of the result.
    """
    folder = make_folder(folder)
    if can_plot():
        _plot_report(report, details, folder / "plots")
    write_result(report, markdown_report(report), folder)


def _plot_report(report: Mapping[str, Any], details: Mapping[str, Sequence[PartResult]], folder: Path) -> None:
    protocol = report["protocol"]
    for name, results in details.items():
        result = results[0]
        stem = f"{protocol['name']}_{name.replace(' ', '_')}"
        title = f"{protocol['dataset']}, {name}: top-1 {100 * result.metrics['top1']:.1f} %"
        plot_confusion(result.confusion, result.labels, folder / f"confusion_{stem}.png", title=title)
        plot_class_accuracies(result.class_accuracies, result.labels, folder / f"classes_{stem}.png", title=title)
    if protocol["protocol"] == "base_to_novel":
        ours = {name: (result["base"], result["novel"]) for name, result in report["results"].items()}
        published = published_results()["base_to_novel"].get(protocol["dataset"], {})
        plot_base_novel(ours, published, folder / "base_novel.png", title=protocol["name"])


def write_result(report: Mapping[str, Any], markdown: str, folder: Path) -> None:
    """Writes `result.md` and `result.json`; the latter last: a folder that has it is complete."""
    write_text_whole(folder / "result.md", markdown)
    write_text_whole(folder / "result.json", json_text(report, indent=2) + "\n")


def _own_row(protocol: str, result: Mapping[str, Any]) -> list[str]:
    if protocol == "base_to_novel":
        return [one_decimal(result[key]) for key in ("base", "novel", "harmonic_mean")]
    splits = f"{one_decimal(result['splits_mean'])} ± {one_decimal(result['splits_std'])}"
    return [splits] if protocol == "random_labels" else [one_decimal(result["full"]), splits]


def one_decimal(value: float | None) -> str:
    """A number of a table, with one decimal; nothing for a value that is not known."""
    return "" if value is None else f"{value:.1f}"


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table of Markdown, from cells whose text is safe; see `cell`."""
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def cell(text: str, *, limit: int = LONGEST_NAME) -> str:
    """Text that cannot break out of a Markdown table's cell, and is neither a link nor a picture."""
    return markdown_text(" ".join(printable(text, limit=limit).split()))
