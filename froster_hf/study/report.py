"""The report of a study: `study.json` with everything, `README.md` with tables and sentences, three plots."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .claims import by_pair, differences, verdict
from .plan import VARIANTS
from .plots import plot_base_against_novel, plot_grid, plot_harmonic_means
from .statistics import Estimate, estimate, paired_difference

COLUMNS = {
    "base_top1": "base",
    "novel_top1": "novel",
    "hm": "HM",
}
DETAILS = {
    "novel_appearance": "novel: appearance right",
    "novel_motion": "novel: motion right",
    "base_direction": "base: direction right",
    "novel_direction": "novel: direction right",
    "base_undirected": "base: without direction, top-1",
    "novel_undirected": "novel: likewise",
}


def write_report(study: Mapping[str, Any], output: Path) -> Path:
    """Writes everything; returns the path of the README."""
    output.mkdir(parents=True, exist_ok=True)
    (output / "study.json").write_text(json.dumps(study, indent=1) + "\n", encoding="utf-8")
    runs, reference = study["runs"], study["plan"]["reference"]
    methods = list(dict.fromkeys(run["method"] for run in runs))
    found = {
        metric: {method: estimate(by_pair(runs, method, metric)) for method in methods}
        for metric in (*COLUMNS, *DETAILS)
    }
    plot_harmonic_means(found["hm"], output / "harmonic_means.png", reference=reference)
    plot_base_against_novel(
        found["base_top1"], found["novel_top1"], output / "base_against_novel.png", reference=reference
    )
    plot_grid(study["trials"], output / "grids.png")
    text = "\n\n".join([_introduction(study), _table(study, found), _claims(study), _details(found), _choices(study)])
    (output / "README.md").write_text(text + "\n", encoding="utf-8")
    return output / "README.md"


def _introduction(study: Mapping[str, Any]) -> str:
    plan, machine = study["plan"], study["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in study["versions"].items())
    command = f"    {study['command']}\n\n" if study["command"] else ""
    return f"""# FROSTER in miniature, on moving shapes

{command}Every world has a small CLIP of its own, pre-trained on rendered stills, and two halves of classes such as
"a red star sliding left": base and novel ones share motions, and no colour and no shape. Models are fine-tuned on a
few clips of the base classes and tested on other clips of both halves, each over its own labels. Videos are H.264
files; objects leave no trails, so motion is in the change from frame to frame alone.

Hyperparameters were chosen by the harmonic mean (HM) on world {plan["validation_world"]}, and written down before the
test worlds {_listed(plan["test_worlds"])} were drawn; fine-tuning seeds {_listed(plan["seeds"])}. Made on
{machine["cores"]} cores ({machine["processor"]}, {machine["processes"]} processes) in {study["minutes"]:.0f} minutes;
{versions}. All runs are in `study.json`.

These are rendered shapes and a CLIP of about 1.4 million parameters: what holds here may not hold for real actions,
and the other way round."""


def _table(study: Mapping[str, Any], found: Mapping[str, Mapping[str, Estimate]]) -> str:
    runs, reference = study["runs"], study["plan"]["reference"]
    some = next(iter(found["hm"].values()))
    lines = [
        "## Results",
        "",
        f"Top-1 in percent, means with 95% intervals over {some.count} {some.unit}s; the last column is paired: the "
        f"same world and seed, HM minus that of `{reference}`.",
        "",
        f"| method | base | novel | HM | HM − {reference} |",
        "|---|---|---|---|---|",
    ]
    for method in sorted(found["hm"], key=lambda name: -found["hm"][name].mean):
        cells = [_percent(found[metric][method]) for metric in COLUMNS]
        pair = paired_difference(by_pair(runs, method, "hm"), by_pair(runs, reference, "hm"))
        lines.append(f"| {method} | {' | '.join(cells)} | {'' if method == reference else _points(pair)} |")
    variants = "; ".join(f"`{name}`: {text}" for name, text in VARIANTS.items())
    lines += ["", f"Variants of a fine-tuned model: {variants}.", ""]
    lines += ["![Harmonic means](harmonic_means.png)", "", "![Base against novel](base_against_novel.png)"]
    return "\n".join(lines)


def _claims(study: Mapping[str, Any]) -> str:
    lines = [
        "## Claims",
        "",
        "Paired differences in points, with 95% intervals. A claim *appears* when its interval lies above zero.",
        "",
        "| claim | compared | difference | verdict |",
        "|---|---|---|---|",
    ]
    for claim, difference in differences(study["runs"]):
        compared = f"{claim.ours} − {claim.theirs}, {claim.metric.replace('_', ' ')}"
        lines.append(f"| {claim.text} | {compared} | {_points(difference)} | {verdict(difference)} |")
    return "\n".join(lines)


def _details(found: Mapping[str, Mapping[str, Estimate]]) -> str:
    lines = [
        "## Where the answers are right",
        "",
        "Appearance: the answer has the clip's colour and shape. Motion: it has its motion. Direction: clips and "
        "their reversals, between a label and its opposite; a model that cannot see direction has exactly 50. Without "
        "direction: top-1 of the clips whose motion is its own reversal.",
        "",
        f"| method | {' | '.join(DETAILS.values())} |",
        f"|---{'|---' * len(DETAILS)}|",
    ]
    for method in found["hm"]:
        lines.append(f"| {method} | {' | '.join(_percent(found[metric][method]) for metric in DETAILS)} |")
    return "\n".join(lines)


def _choices(study: Mapping[str, Any]) -> str:
    lines = ["## Choices", "", "| method | chosen on the validation world |", "|---|---|"]
    for method, values in study["choices"].items():
        own = study["plan"]["methods"][method]["choices_of"]
        text = ", ".join(f"{name} {value:g}" for name, value in values.items()) or "nothing"
        lines.append(f"| {method} | {text}{f' (those of {own})' if own else ''} |")
    return "\n".join([*lines, "", "![Grids](grids.png)"])


def _percent(value: Estimate) -> str:
    half = (value.high - value.low) / 2
    return f"{100 * value.mean:.1f}" + (f" ± {100 * half:.1f}" if value.count > 1 else "")


def _points(value: Estimate) -> str:
    interval = f" [{100 * value.low:+.1f}, {100 * value.high:+.1f}]" if value.count > 1 else ""
    return f"{100 * value.mean:+.1f}{interval}"


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))
