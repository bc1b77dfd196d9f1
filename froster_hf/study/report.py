"""The report of a study: `study.json` with everything, `README.md` with tables and sentences, plots."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..whole_files import write_text_whole
from .claims import by_pair, differences
from .plan import VARIANTS
from .plots import plot_base_against_novel, plot_grid, plot_harmonic_means
from .statistics import Estimate, estimate, paired_difference

COLUMNS = {
    "base_top1": "base",
    "novel_top1": "novel",
    "hm": "HM",
}
DETAILS = {
    "novel_appearance": "novel: appearance",
    "novel_motion": "novel: motion",
    "base_direction": "base: direction",
    "novel_direction": "novel: direction",
    "base_undirected": "base: undirected",
    "novel_undirected": "novel: undirected",
}
Found = Mapping[str, Mapping[str, Estimate | None]]


def write_report(study: Mapping[str, Any], output: Path) -> Path:
    """Writes everything; returns the path of the README."""
    output.mkdir(parents=True, exist_ok=True)
    runs, reference = study["runs"], study["plan"]["reference"]
    methods = list(dict.fromkeys(run["method"] for run in runs))
    found: dict[str, dict[str, Estimate | None]] = {}
    for metric in (*COLUMNS, *DETAILS):
        values = {method: by_pair(runs, method, metric) for method in methods}
        found[metric] = {method: estimate(own) if own else None for method, own in values.items()}
    top1: Any = found
    plot_harmonic_means(top1["hm"], output / "harmonic_means.png", reference=reference)
    plot_base_against_novel(
        top1["base_top1"], top1["novel_top1"], output / "base_against_novel.png", reference=reference
    )
    if study["trials"]:
        plot_grid(study["trials"], output / "grids.png")
    text = "\n\n".join([_introduction(study), _table(study, found), _claims(study), _details(found), _choices(study)])
    write_text_whole(output / "README.md", text + "\n")
    write_text_whole(output / "study.json", json.dumps(_without_nan(study), indent=1) + "\n")
    return output / "README.md"


def _introduction(study: Mapping[str, Any]) -> str:
    plan, machine, world = study["plan"], study["machine"], study["recipe"]["world"]
    versions = ", ".join(f"{name} {version}" for name, version in study["versions"].items())
    chosen = "There was nothing to choose."
    if study["trials"]:
        chosen = (
            f"Hyperparameters were chosen by the harmonic mean (HM) on world {plan['validation_world']}, and written "
            "down before the test worlds were drawn."
        )
    paragraphs = [
        "# FROSTER in miniature, on moving shapes",
        *([f"    {study['command']}"] if study["command"] else []),
        f"Every world has a small CLIP of its own, pre-trained on rendered stills in {study['pretraining']['steps']} "
        f'steps, and two halves of {world["num_classes"]} classes such as "a red star sliding left": base and novel '
        "ones share motions, and no colour and no shape. Models are fine-tuned on "
        f"{world['clips_per_class']} clips of every base class and tested on {world['eval_clips_per_class']} others "
        f"of every class, base and novel apart. Clips are H.264 files of {world['num_frames']} frames of "
        f"{world['resolution']} pixels; in {100 * world['trail_rate']:.0f}% of them objects leave a trail that tells "
        "the motion in a single frame.",
        f"{chosen} Test worlds: {_listed(plan['test_worlds'])}; fine-tuning seeds: {_listed(plan['seeds'])}. Made on "
        f"{machine['cores']} cores ({machine['processor']}) with {machine['processes']} processes in "
        f"{study['minutes']:.0f} minutes; {versions}. All runs are in `study.json`.",
        "What holds for rendered shapes and a small CLIP may not hold for real actions, and the other way round.",
    ]
    return "\n\n".join(paragraphs)


def _table(study: Mapping[str, Any], found: Found) -> str:
    runs, reference = study["runs"], study["plan"]["reference"]
    some: Any = found["hm"][reference]
    ranked: Any = found["hm"]
    lines = [
        "## Results",
        "",
        f"Top-1 in percent: means and 95% intervals over {some.count} {some.unit}s (the frozen model has one run a "
        f"world). The last column is paired: the same world and seed, HM minus that of `{reference}`.",
    ]
    if some.unit == "run":
        lines[-1] += " Runs of one world share its CLIP and videos: the intervals speak of these worlds."
    lines += ["", f"| method | base | novel | HM | HM − {reference} |", "|---|---|---|---|---|"]
    for method in sorted(ranked, key=lambda name: -ranked[name].mean):
        cells = [_percent(found[metric][method]) for metric in COLUMNS]
        pair = paired_difference(by_pair(runs, method, "hm"), by_pair(runs, reference, "hm"))
        lines.append(f"| {method} | {' | '.join(cells)} | {'' if method == reference else _points(pair)} |")
    measured = {variant for method in study["plan"]["methods"].values() for variant in method["variants"]}
    variants = "; ".join(f"`{name}`: {text}" for name, text in VARIANTS.items() if name in measured)
    lines += ["", f"Variants of a fine-tuned model: {variants}.", ""] if variants else [""]
    lines += ["![Harmonic means](harmonic_means.png)", "", "![Base against novel](base_against_novel.png)"]
    return "\n".join(lines)


def _claims(study: Mapping[str, Any]) -> str:
    lines = [
        "## Claims",
        "",
        "Paired differences in points, with 95% intervals, not corrected for their number. A claim *appears* when the "
        "whole interval agrees with it.",
        "",
        "| claim | compared | difference | verdict |",
        "|---|---|---|---|",
    ]
    for claim, difference in differences(study["runs"]):
        compared = f"{claim.ours} − {claim.theirs}, {claim.metric.replace('_', ' ')}"
        lines.append(f"| {claim.text} | {compared} | {_points(difference)} | {claim.verdict(difference)} |")
    return "\n".join(lines)


def _details(found: Found) -> str:
    lines = [
        "## Where the answers are right",
        "",
        "In percent. Appearance: the answer has the clip's colour and shape. Motion: it has its motion. Direction: "
        "over clips and their reversals, between a label and its opposite; a model that cannot see direction has "
        "exactly 50. Undirected: top-1 of the clips whose motion is its own reversal.",
        "",
        f"| method | {' | '.join(DETAILS.values())} |",
        f"|---{'|---' * len(DETAILS)}|",
    ]
    for method in found["hm"]:
        lines.append(f"| {method} | {' | '.join(_percent(found[metric][method]) for metric in DETAILS)} |")
    return "\n".join(lines)


def _choices(study: Mapping[str, Any]) -> str:
    lines = ["## Choices", "", "| method | chosen on the validation world |", "|---|---|"]
    methods = study["plan"]["methods"]
    for method, values in study["choices"].items():
        own = methods[method]["choices_of"]
        grid = methods[own or method]["grid"]
        text = ", ".join(
            f"{name.replace('_', ' ')} {value:g}{_edge(value, grid[name])}" for name, value in values.items()
        )
        lines.append(f"| {method} | {text or 'nothing'}{f'; those of {own}' if own else ''} |")
    return "\n".join([*lines, *(["", "![Grids](grids.png)"] if study["trials"] else [])])


def _edge(value: float, tried: Sequence[float]) -> str:
    """Beyond the edge of what was tried there may be a better value."""
    if min(tried) < value < max(tried) or len(tried) == 1:
        return ""
    return " (the least tried)" if value == min(tried) else " (the most tried)"


def _percent(value: Estimate | None) -> str:
    if value is None:
        return "—"
    return f"{100 * value.mean:.1f}" + (f" ± {100 * value.half_width:.1f}" if value.count > 1 else "")


def _points(value: Estimate) -> str:
    interval = f" [{100 * value.low:+.1f}, {100 * value.high:+.1f}]" if value.count > 1 else ""
    return f"{100 * value.mean:+.1f}{interval}"


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))


def _without_nan(value: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(value, Mapping):
        return {name: _without_nan(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_without_nan(part) for part in value]
    return None if isinstance(value, float) and math.isnan(value) else value
