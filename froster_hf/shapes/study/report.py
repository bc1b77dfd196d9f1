"""The report of a study: `study.json` with everything, `README.md` with tables and sentences, plots."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...evaluation.plots import BLUE, GRAY, ORANGE, new_axes, save_figure
from ...evaluation.report import cell, markdown_table
from ...printing import LONGEST_MESSAGE, printable
from ...whole_files import make_folder, write_text_whole
from .plan import VARIANTS
from .statistics import Estimate, by_pair, differences, estimate, paired_difference

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
    "base_speed": "base: speed",
    "novel_speed": "novel: speed",
    "out_of_context_top1": "out of context",
}
GRID_LABELS = {"learning_rate": "learning rate", "beta": "β (weight of the distillation)", "alpha": "α (residual)"}
SUMMARY = {
    "frozen": "nothing (frozen CLIP)",
    "plain": "no distillation",
    "X-CLIP attention": "no distillation, `cross_frame`",
    "residual": "FROSTER's residual distillation",
    "directional residual": "the same, `directional_attention`",
    "ST-Adapter residual": "the same, `st_adapter`",
    "ST-Adapter still": "still frames distilled, `st_adapter`",
    "motion adapter residual": "FROSTER's, `motion_adapter`",
    "motion adapter": "no distillation, `motion_adapter`",
    "TACO + weight_average": "TACO, weights averaged over the epochs",
}
Found = Mapping[str, Mapping[str, Estimate | None]]

# Beside `README.md` and `study.json`.
PLOT_NAMES = ("harmonic_means.png", "base_against_novel.png", "grids.png", "cost.png")


def write_study(study: Mapping[str, Any], output: Path) -> Path:
    """Writes everything; returns the path of the README."""
    make_folder(output)
    # First: what else is there is then a report of this plan.
    write_text_whole(output / "study.json", json.dumps(_without_nan(study), indent=1) + "\n")
    runs, reference = study["runs"], study["plan"]["reference"]
    methods = list(dict.fromkeys(run["method"] for run in runs))
    found: dict[str, dict[str, Estimate | None]] = {}
    for metric in (*COLUMNS, *DETAILS):
        values = {method: by_pair(runs, method, metric) for method in methods}
        found[metric] = {method: estimate(own) if own else None for method, own in values.items()}
    top1: Any = found
    harmonic_means, base_against_novel, grids, cost = (output / name for name in PLOT_NAMES)
    plot_harmonic_means(top1["hm"], harmonic_means, reference=reference)
    plot_base_against_novel(top1["base_top1"], top1["novel_top1"], base_against_novel, reference=reference)
    if study["trials"]:
        plot_grid(study["trials"], grids)
    if study.get("gigaflops"):
        plot_cost(top1["hm"], study["gigaflops"], cost, reference=reference)
    parts = [
        _introduction(study),
        _table(study, found),
        _claims(study),
        _details(found),
        _cost(study),
        _choices(study),
    ]
    text = "\n\n".join(filter(None, parts))
    write_text_whole(output / "README.md", text + "\n")
    return output / "README.md"


def _introduction(study: Mapping[str, Any]) -> str:
    plan, machine, world = study["plan"], study["machine"], study["recipe"]["world"]
    versions = ", ".join(f"{name} {version}" for name, version in study["versions"].items())
    chosen = "There was nothing to choose."
    if study["trials"]:
        chosen = (
            f"Hyperparameters were chosen by the harmonic mean (HM) on {_worlds(plan['validation_worlds'])}, and "
            "written down before the test worlds were drawn."
        )
    paragraphs = [
        f"# FROSTER in miniature, on moving shapes: {cell(plan['name'])}",
        *([f"    {printable(study['command'], limit=LONGEST_MESSAGE)}"] if study["command"] else []),
        f"Every world has a small CLIP of its own, pre-trained on rendered stills in {study['pretraining']['steps']} "
        f'steps, and two halves of {world["num_classes"]} classes such as "a red star sliding left": base and novel '
        f"ones share motions, and no color and no shape. Models are fine-tuned by the recipe {cell(plan['recipe'])} "
        f"on {world['clips_per_class']} clips of every base class and tested on {world['eval_clips_per_class']} "
        f"others of every class, base and novel apart. Clips are H.264 files of {world['num_frames']} frames of "
        f"{world['resolution']} pixels; in {100 * world['trail_rate']:.0f}% of them objects leave a trail that tells "
        f"the motion in a single frame.{_hardships(world.get('hardships') or {})}{_clips(study.get('clips'))}",
        f"{chosen} Test worlds: {_listed(plan['test_worlds'])}; fine-tuning seeds: {_listed(plan['seeds'])}. Made on "
        f"{machine['cores']} cores ({machine['processor']}) with {machine['processes']} processes in "
        f"{study['minutes']:.0f} minutes; {versions}. All runs are in `study.json`.",
        "What holds for rendered shapes and a small CLIP may not hold for real actions, and the other way round.",
    ]
    return "\n\n".join(paragraphs)


def _hardships(given: Mapping[str, Any]) -> str:
    told = {
        "scene_bias": "in {:.0%} of the clips the backdrop goes with the label",
        "camera_speed": "the camera pans",
        "occlusion_rate": "a post stands in front of {:.0%} of the clips",
        "max_crf": "files are compressed down to a CRF of {}",
        "speeds": "labels tell the speed of a motion that has one",
    }
    made = [text.format(given[name]) for name, text in told.items() if given.get(name)]
    return f" What makes them hard: {'; '.join(made)}." if made else ""


def _clips(clips: Sequence[Mapping[str, float]] | None) -> str:
    if not clips:
        return ""
    found = sorted(100 * clip["accuracy"] for clip in clips)
    return (
        " Of held-out stills, these CLIPs find color and shape among all pairs in "
        f"{found[0]:.0f}% to {found[-1]:.0f}% of the cases, by world."
    )


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
    rows = []
    for method in sorted(ranked, key=lambda name: -ranked[name].mean):
        pair = paired_difference(by_pair(runs, method, "hm"), by_pair(runs, reference, "hm"))
        measures = [_percent(found[metric][method]) for metric in COLUMNS]
        rows.append([cell(method), *measures, "" if method == reference else _points(pair)])
    lines += ["", *markdown_table(["method", *COLUMNS.values(), f"HM − {cell(reference)}"], rows)]
    measured = {variant for method in study["plan"]["methods"].values() for variant in method["variants"]}
    variants = "; ".join(f"`{name}`: {text}" for name, text in VARIANTS.items() if name in measured)
    lines += ["", f"Variants of a fine-tuned model: {variants}.", ""] if variants else [""]
    lines += ["![Harmonic means](harmonic_means.png)", "", "![Base against novel](base_against_novel.png)"]
    return "\n".join(lines)


def summary(study: Mapping[str, Any]) -> str:
    """The short table of a study that stands in the package's README: what is there of `SUMMARY`."""
    columns = {**COLUMNS, "hm": "harmonic mean", "novel_direction": "forward or backward, novel"}
    if any(run.get("out_of_context_top1") is not None for run in study["runs"]):
        columns["out_of_context_top1"] = "out of context"
    rows = []
    for method, text in SUMMARY.items():
        values = [by_pair(study["runs"], method, metric) for metric in columns]
        if all(values):
            rows.append([text, *(f"{100 * estimate(own).mean:.1f}" for own in values)])
    return "\n".join(markdown_table(["trained with", *columns.values()], rows))


def _claims(study: Mapping[str, Any]) -> str:
    correction = "not corrected for their number"
    if study["plan"]["corrected"]:
        correction = "corrected for their number (Bonferroni): all of them hold together with this confidence"
    lines = [
        "## Claims",
        "",
        f"Paired differences in points, with 95% intervals, {correction}. A claim *appears* when the whole "
        "interval agrees with it.",
        "",
    ]
    rows = [
        [
            claim.text,
            f"{claim.ours} − {claim.theirs}, {claim.metric.replace('_', ' ')}",
            _points(difference),
            claim.verdict(difference),
        ]
        for claim, difference in differences(study["runs"], corrected=study["plan"]["corrected"])
    ]
    return "\n".join([*lines, *markdown_table(["claim", "compared", "difference", "verdict"], rows)])


def _details(found: Found) -> str:
    # Worlds without speeds, or whose backdrops do not go with the labels, have nothing to say of them.
    shown = {metric: title for metric, title in DETAILS.items() if any(found[metric].values())}
    text = (
        "In percent. Appearance: the answer has the clip's color and shape. Motion: it has its motion. Direction: "
        "over clips and their reversals, between a label and its opposite; a model that cannot see direction has "
        "exactly 50. Undirected: top-1 of the clips whose motion is its own reversal."
    )
    if "base_speed" in shown:
        text += " Speed: between a label and that of the other speed."
    if "out_of_context_top1" in shown:
        text += (
            " Out of context: top-1 of base classes in front of backdrops drawn again, where in training and in the "
            "other tests a backdrop goes with its label."
        )
    rows = [[cell(method), *(_percent(found[metric][method]) for metric in shown)] for method in found["hm"]]
    table = markdown_table(["method", *shown.values()], rows)
    return "\n".join(["## Where the answers are right", "", text, "", *table])


def _cost(study: Mapping[str, Any]) -> str:
    if not study.get("gigaflops"):
        return ""
    costs, reference = study["gigaflops"], study["plan"]["reference"]
    lines = [
        "## Cost",
        "",
        "Arithmetic of the vision tower at the size of ViT-B/16 on one clip of 8 frames, and over that of "
        f"`{reference}`.",
        "",
    ]
    rows = [
        [cell(method), f"{cost:.1f}", f"{100 * (cost / costs[reference] - 1):+.1f}%"]
        for method, cost in sorted(costs.items(), key=lambda item: item[1])
    ]
    lines += markdown_table(["method", "GFLOP", "more"], rows)
    return "\n".join([*lines, "", "![Harmonic mean against arithmetic](cost.png)"])


def _choices(study: Mapping[str, Any]) -> str:
    methods, rows = study["plan"]["methods"], []
    for method, values in study["choices"].items():
        own = methods[method]["choices_of"]
        tried = {
            name: [
                trial["value"]
                for trial in study["trials"]
                if (trial["method"], trial["field"]) == (own or method, name)
            ]
            for name in values
        }
        text = ", ".join(
            f"{name.replace('_', ' ')} {value:g}{_edge(value, tried[name])}" for name, value in values.items()
        )
        rows.append([cell(method), (text or "nothing") + (f"; those of {cell(own)}" if own else "")])
    noun = "world" if len(study["plan"]["validation_worlds"]) == 1 else "worlds"
    table = markdown_table(["method", f"chosen on the validation {noun}"], rows)
    return "\n".join(["## Choices", "", *table, *(["", "![Grids](grids.png)"] if study["trials"] else [])])


def _edge(value: float, tried: Sequence[float]) -> str:
    """Beyond the edge of what was tried there may be a better value."""
    if len(tried) == 1:
        return ""
    if min(tried) < value < max(tried):
        return f" (from {min(tried):g} to {max(tried):g})"
    return " (the least tried)" if value == min(tried) else " (the most tried)"


def _percent(value: Estimate | None) -> str:
    if value is None:
        return "—"
    return f"{100 * value.mean:.1f}" + (f" ± {100 * value.half_width:.1f}" if value.count > 1 else "")


def _points(value: Estimate) -> str:
    interval = f" [{100 * value.low:+.1f}, {100 * value.high:+.1f}]" if value.count > 1 else ""
    return f"{100 * value.mean:+.1f}{interval}"


def _worlds(seeds: list[int]) -> str:
    return f"world {seeds[0]}" if len(seeds) == 1 else f"the worlds {_listed(seeds)}, by its mean"


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))


def _without_nan(value: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(value, Mapping):
        return {name: _without_nan(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_without_nan(part) for part in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _color(method: str, reference: str) -> str:
    return ORANGE if method == reference else GRAY if method == "frozen" else BLUE


def plot_harmonic_means(estimates: Mapping[str, Estimate], path: Path, *, reference: str) -> Path:
    """Bars of HM (percent), best first, with 95% intervals where there are any."""
    names = sorted(estimates, key=lambda name: -estimates[name].mean)
    figure, axes = new_axes(7.5, 0.36 * len(names) + 1.3)
    means = [100 * estimates[name].mean for name in names]
    errors = [100 * estimates[name].half_width for name in names]
    colors = [_color(name, reference) for name in names]
    axes.barh(range(len(names)), means, xerr=errors, color=colors, ecolor="black", capsize=2.5)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set(xlabel="harmonic mean of base and novel top-1 (%), 95% interval", xlim=(0, 100))
    return save_figure(figure, path)


def plot_base_against_novel(
    base: Mapping[str, Estimate], novel: Mapping[str, Estimate], path: Path, *, reference: str
) -> Path:
    """One point a method: base and novel top-1 (percent)."""
    figure, axes = new_axes(7.5, 5.5)
    # Numbers in the picture and names beside it: the methods lie too close for names.
    order = sorted(base, key=lambda name: -novel[name].mean)
    for number, name in enumerate(order, start=1):
        x, y = 100 * base[name].mean, 100 * novel[name].mean
        axes.scatter(x, y, color=_color(name, reference), zorder=3, label=f"{number}  {name}")
        axes.annotate(str(number), (x, y), xytext=(4, 4), textcoords="offset points", fontsize=9)
    axes.margins(0.1)
    axes.grid(linewidth=0.4)
    axes.set(xlabel="base top-1 (%)", ylabel="novel top-1 (%)")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=9)
    return save_figure(figure, path)


def plot_cost(estimates: Mapping[str, Estimate], costs: Mapping[str, float], path: Path, *, reference: str) -> Path:
    """One point a method: HM (percent, with its interval) against arithmetic over that of the reference.

    Points of the same arithmetic stand side by side. What costs half as much again as the reference, as an ensemble
    does, would leave no room for the others; it is named instead.
    """
    figure, axes = new_axes(8.5, 5.5)
    relative = {name: 100 * costs[name] / costs[reference] for name in estimates if name in costs}
    order = sorted(relative, key=lambda name: -estimates[name].mean)
    beyond = [f"{name} ({relative[name]:.0f}%)" for name in order if relative[name] > 150]
    shown = [name for name in order if relative[name] <= 150]
    for number, name in enumerate(shown, start=1):
        beside = [other for other in shown if abs(relative[other] - relative[name]) < 0.5]
        x = relative[name] + 0.12 * (beside.index(name) - (len(beside) - 1) / 2)
        own = estimates[name]
        color = _color(name, reference)
        error = 0 if own.count == 1 else 100 * own.half_width
        axes.errorbar(
            x, 100 * own.mean, yerr=error, fmt="o", color=color, capsize=2, linewidth=0.8, label=f"{number}  {name}"
        )
        axes.annotate(str(number), (x, 100 * own.mean), xytext=(3, 4), textcoords="offset points", fontsize=9)
    axes.margins(0.1)
    axes.grid(linewidth=0.4)
    left_out = f"\nnot shown: {', '.join(beyond)}" if beyond else ""
    axes.set(
        xlabel=f"arithmetic of the vision tower, in percent of {reference}{left_out}", ylabel="HM (%), 95% interval"
    )
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=9)
    return save_figure(figure, path)


def plot_grid(trials: Sequence[Mapping[str, Any]], path: Path) -> Path:
    """HM on the validation world along each grid that was tried."""
    fields = [name for name in GRID_LABELS if any(trial["field"] == name for trial in trials)]
    methods = list(dict.fromkeys(trial["method"] for trial in trials))
    figure, panels = new_axes(4.2 * len(fields) + 2.2, 4.2, ncols=len(fields), sharey=True, squeeze=False)
    panels = panels[0]
    drawn: dict[str, Any] = {}
    for axes, name in zip(panels, fields):
        for number, method in enumerate(methods):
            own = [trial for trial in trials if (trial["method"], trial["field"]) == (method, name)]
            own.sort(key=lambda trial: trial["value"])
            if own:
                values, hm = [trial["value"] for trial in own], [100 * trial["hm"] for trial in own]
                # There are ten colors.
                style = "-" if number < 10 else "--"
                (line,) = axes.plot(values, hm, style, marker="o", markersize=4, color=f"C{number}")
                drawn.setdefault(method, line)
        axes.set_xscale("log")
        ticks = _apart(sorted({trial["value"] for trial in trials if trial["field"] == name}))
        axes.set_xticks(ticks, [f"{value:g}" for value in ticks], rotation=45, fontsize=8)
        axes.minorticks_off()
        axes.grid(linewidth=0.4)
        axes.set(xlabel=GRID_LABELS[name])
    figure.legend(drawn.values(), drawn.keys(), loc="outside right center", frameon=False, fontsize=9)
    panels[0].set_ylabel("HM on the validation worlds (%)")
    return save_figure(figure, path)


def _apart(values: Sequence[float]) -> list[float]:
    """Ascending values without those whose labels would run into each other on a logarithmic axis."""
    kept: list[float] = []
    for value in values:
        if not kept or value >= 1.35 * kept[-1]:
            kept.append(value)
    return kept
