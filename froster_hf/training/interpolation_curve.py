"""The accuracy of the checkpoints between two others: what fine-tuning has gained and lost, and where both are kept.

Wortsman et al. (WiSE-FT, CVPR 2022), figure 1; Ilharco et al. (patching, NeurIPS 2022). By a base-to-novel protocol
the curve shows the classes that were trained on and the others, against the ratio.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..evaluation.evaluating import evaluate_protocol
from ..evaluation.plots import BLUE, GRAY, ORANGE, new_axes, save_figure
from ..evaluation.protocols import EvaluationData, EvaluationProtocol
from ..modeling.modeling_froster import FrosterForVideoClassification
from ..processes import refuse_several_processes
from ..processing.processing_froster import FrosterProcessor
from ..processing.text_files import read_json
from ..whole_files import check_writable, refuse_irregular, refuse_results, worked_in_alone, write_text_whole
from .weights import interpolate
from .whole_folders import discard, prepare_incomplete

RATIOS = (0.0, 0.25, 0.5, 0.75, 1.0)
CURVE_NAME, PLOT_NAME = "curve.json", "curve.png"
# Numbers of a result that are accuracies, in the words of the plot.
_LINES = {
    "base": "trained classes",
    "novel": "other classes",
    "harmonic_mean": "harmonic mean",
    "full": "all clips",
    "splits_mean": "mean over the splits",
}


def interpolation_curve(
    checkpoint_a: str | os.PathLike,
    checkpoint_b: str | os.PathLike,
    *,
    protocol: str | os.PathLike | EvaluationProtocol,
    data: EvaluationData | Mapping[str, Any],
    output_dir: str | os.PathLike,
    ratios: Sequence[float] = RATIOS,
    overwrite: bool = False,
    **computing: Any,
) -> dict[str, Any]:
    """Evaluates the checkpoints between two others; run again after an interruption, it resumes where it stopped.

    Args:
        checkpoint_a: at ratio 0, such as the CLIP that training started from; see [`interpolate`].
        checkpoint_b: at ratio 1, a FROSTER checkpoint with its processor.
        protocol: protocol of the evaluation; see [`~froster_hf.evaluation.evaluate_protocol`].
        data: where its videos and annotation files are.
        output_dir: gets `curve.json`, `curve.png` and a result folder per ratio. Weights are not kept.
        ratios: from 0 to 1.
        overwrite: replace the curve that is there, and the evaluations of other models, data or settings.
        computing: `batch_size`, `num_workers` and `precision`.

    Returns:
        What `curve.json` holds: `ratios`, and by name (`base`, `novel`, `harmonic_mean`; or `full`, `splits_mean`) the
        accuracies in percent at these ratios.

    Raises:
        ValueError: no ratios or one outside of [0, 1], another run in the folder, several processes, or what the
            evaluation refuses.
        CheckpointMismatchError: nothing lies between the two checkpoints.
        ResultExistsError: there is a `curve.json` or `curve.png` that no curve with one of these ratios has left, by
            now or by the end.
        OSError: nothing can be written to `output_dir`.
    """
    refuse_several_processes("A curve between checkpoints")
    ratios = sorted(set(ratios))
    if not ratios or not 0 <= ratios[0] <= ratios[-1] <= 1:
        raise ValueError(f"The ratios are {list(ratios)}; give some from 0, the first checkpoint, to 1, the second.")
    output = Path(output_dir)
    check_writable(output)
    for name in (CURVE_NAME, PLOT_NAME):
        refuse_irregular(output / name)
    # Of which evaluations are gone on with, and so are of the same checkpoints, or an error.
    is_gone_on_with = not _measured_ratios(output).isdisjoint(ratios)
    may_replace = overwrite or is_gone_on_with
    refuse_results(output / CURVE_NAME, output / PLOT_NAME, overwrite=may_replace)
    processor = FrosterProcessor.from_pretrained(checkpoint_b)
    results = []
    with worked_in_alone(output):  # another run would delete the weights between
        for ratio in ratios:
            # A name that is the same in the next run, so that it deletes what a killed one has left.
            weights = prepare_incomplete(_ratio_folder(output, ratio))
            try:
                between = interpolate(checkpoint_a, checkpoint_b, ratio, output_dir=weights / "model")
                model = FrosterForVideoClassification.from_pretrained(between)
            finally:
                discard(weights)
            report = evaluate_protocol(
                protocol,
                models=model,
                processor=processor,
                data=data,
                output_dir=_ratio_folder(output, ratio),
                method="between",
                overwrite=overwrite,
                **computing,
            )
            results.append(report["results"]["between"])
    curve = {
        "ratios": list(ratios),
        **{name: [result[name] for result in results] for name in _LINES if results[0].get(name) is not None},
    }
    write_text_whole(output / CURVE_NAME, json.dumps(curve, indent=2) + "\n", overwrite=may_replace)
    _plot(curve, output / PLOT_NAME, overwrite=may_replace)
    return curve


def _ratio_folder(output: Path, ratio: float) -> Path:
    # All digits, or two ratios could have one folder.
    return output / f"ratio-{str(float(ratio)).removesuffix('.0')}"


def _measured_ratios(output: Path) -> set[float]:
    """Those of the curve that is there, of which the evaluations are there, too."""
    try:
        stored = read_json(output / CURVE_NAME)["ratios"]
        return {ratio for ratio in stored if _ratio_folder(output, ratio).is_dir()}
    except (OSError, ValueError, TypeError, LookupError, OverflowError):
        return set()


def _plot(curve: Mapping[str, Sequence[float]], path: Path, *, overwrite: bool) -> Path:
    figure, axes = new_axes(5.5, 4)
    colors = {"base": BLUE, "novel": ORANGE, "harmonic_mean": GRAY}
    for name, title in _LINES.items():
        if name in curve:
            style = "--" if name == "harmonic_mean" else "-"
            axes.plot(curve["ratios"], curve[name], style, marker="o", color=colors.get(name, BLUE), label=title)
    axes.grid(linewidth=0.4)
    axes.legend(frameon=False)
    axes.set(xlabel="ratio (0: before the training, 1: after)", ylabel="top-1 (%)")
    return save_figure(figure, path, overwrite=overwrite)
