"""Which of these are in it? Scores of each label for itself, on rendered clips with two objects.

    OMP_NUM_THREADS=1 python benchmarks/multi_label.py

The shipped checkpoint scores clips of two moving shapes, of which each is in half of the picture. Labels are
appearances ("a red star"), or whole actions ("a red star sliding left"). The calibration is fitted on clips with one
half of the labels, and everything is measured on other clips with the other half: it has to serve labels that it has
not seen. Compared are the sigmoid of the logits as they are; each label in a contest with a background
(`multi_label=True`), the checkpoint's own or the bare words of the world's colors and shapes; and the same with the
calibration that `pipeline.calibrate` fits. mAP is the mean over labels of
the average precision over clips; precision, recall and F1 are of all pairs of clip and label at the threshold.
"""

import argparse

import numpy as np
import torch
from transformers import pipeline

import froster_hf  # noqa: F401
from froster_hf.assets import SMALL_FROSTER
from froster_hf.evaluation.metrics import average_precisions
from froster_hf.pipeline.scoring_froster import Calibration
from froster_hf.shapes import COLORS, MOTIONS, SHAPES, draw_scenes, render_clips
from froster_hf.shapes.vocabulary import COLOR, MOTION, SHAPE, with_article

COLOR_NAMES, SHAPE_NAMES, MOTION_NAMES = tuple(COLORS), tuple(SHAPES), tuple(MOTIONS)

BACKGROUNDS = {
    "its background": None,
    "colors and shapes": [*(f"a {color} shape" for color in COLORS), *map(with_article, SHAPES)],
}


def draw(seed: int, number: int, content: str) -> tuple[np.ndarray, list[set[str]]]:
    """Clips (n, T, H, W, 3) of two objects, and what each shows."""
    scenes = draw_scenes(seed, number, second_object_rate=1.0)
    clips = render_clips(scenes, num_frames=8, resolution=32).permute(0, 1, 3, 4, 2).numpy()
    shown = []
    for objects in scenes.attributes:
        names = [with_article(f"{COLOR_NAMES[o[COLOR]]} {SHAPE_NAMES[o[SHAPE]]}") for o in objects]
        if content == "actions":
            names = [f"{name} {MOTION_NAMES[o[MOTION]]}" for name, o in zip(names, objects)]
        shown.append(set(names))
    return clips, shown


def measure(scores: torch.Tensor, present: torch.Tensor, threshold: float) -> list[float]:
    """mAP, precision, recall and F1 in percent."""
    mean = np.nanmean(average_precisions(scores.numpy(), present.numpy()))
    said = scores >= threshold
    right = float((said & present).sum())
    precision, recall = right / max(float(said.sum()), 1), right / float(present.sum())
    f1 = 2 * precision * recall / max(precision + recall, 1e-12)
    return [100 * value for value in (float(mean), precision, recall, f1)]


def run(classify, content: str, number: int, seeds: tuple[int, int]) -> list[list]:
    fit_clips, fit_shown = draw(seeds[0], number, content)
    test_clips, test_shown = draw(seeds[1], number, content)
    every = sorted(set().union(*fit_shown, *test_shown))
    order = np.random.default_rng(0).permutation(len(every))
    fitted, tested = ([every[i] for i in half] for half in np.array_split(order, 2))

    def matrix(clips, labels, **options):
        answers = classify(list(clips), labels, batch_size=16, **options)
        return torch.tensor([[{a["label"]: a["score"] for a in row}[name] for name in labels] for row in answers])

    present = torch.tensor([[name in shown for name in tested] for shown in test_shown])
    targets = [sorted(shown & set(fitted)) for shown in fit_shown]
    logits = matrix(test_clips, tested, function_to_apply="none")
    rows = [["sigmoid of the logits", 0.5, *measure(logits.sigmoid(), present, 0.5)]]
    share = 100 * float(present.float().mean())
    print(f"\n{content}: {len(fitted)} labels fitted, {len(tested)} tested; {share:.2f}% of the pairs are there")
    for name, background in BACKGROUNDS.items():
        classify.processor.calibration = None
        options = {"background_labels": background, "batch_size": 16}
        evidence = matrix(test_clips, tested, function_to_apply="evidence", background_labels=background)
        calibration: Calibration = classify.calibrate(list(fit_clips), targets, fitted, **options)
        calibrated = (calibration.scale * evidence + calibration.bias).sigmoid()
        rows += [
            [f"contest with {name}", 0.5, *measure(evidence.sigmoid(), present, 0.5)],
            [f"{name}, calibrated", 0.5, *measure(calibrated, present, 0.5)],
            [f"{name}, calibrated", calibration.threshold, *measure(calibrated, present, calibration.threshold)],
        ]
        fit = f"scale {calibration.scale:.3f}, bias {calibration.bias:.2f}"
        print(f"{name}: {fit}; mean calibrated score {100 * float(calibrated.mean()):.2f}%")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(SMALL_FROSTER))
    parser.add_argument("--clips", type=int, default=400, help="for the fit, and as many for the test")
    parser.add_argument("--seeds", type=int, nargs=2, default=(1, 2), metavar=("FIT", "TEST"))
    arguments = parser.parse_args()
    classify = pipeline("zero-shot-video-classification", model=arguments.model)
    for content in ("appearances", "actions"):
        rows = run(classify, content, arguments.clips, tuple(arguments.seeds))
        print("\n| scores | threshold | mAP | precision | recall | F1 |\n| --- | --- | --- | --- | --- | --- |")
        for name, threshold, *values in rows:
            print(f"| {name} | {threshold:.2f} | {' | '.join(f'{value:.1f}' for value in values)} |")


if __name__ == "__main__":
    main()
