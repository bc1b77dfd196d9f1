"""Tables {video, label} of rendered files, for the recipes and the protocols of the format `moving_shapes`.

`render_world` is what a recipe trains and evaluates on; `random_label_splits` are label lists drawn at random and
fresh clips of them, the `random_labels` protocol. The catalogue names this module.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from datasets import Dataset

from ..data.segment_lists import AnnotatedSegment, SegmentTable
from ..data.video_table import LABEL_COLUMN, VIDEO_COLUMN, video_features
from ..evaluation.protocols import DetectionProtocol, EvaluationProtocol, Part
from ..settings import read_fields
from ..training.recipes import RecipeWorld
from ..whole_files import make_folder
from .dataset import write_moving_shapes
from .rendering import render_clips
from .scenes import Hardships, draw_scenes
from .splits import draw_classes, split_base_novel, with_interactions, with_speeds
from .video_files import write_mp4
from .vocabulary import COLORS, MOTIONS, ROUND, SHAPES, UNSAID, MovingShape, all_classes

LONG_VIDEO_FPS = 8
# Seeds of one world's files are apart from those of every other world.
_PARTS = ("train", "all", "base", "novel")
# Of the world's words; training recipes count their seeds from 0.
_SEED_OFFSET = 1_000_000
# Classes among which there is one whose shape is not round.
_ENOUGH = 32


def render_world(
    world: RecipeWorld, *, root: str | Path, label_set: Literal["all", "base"]
) -> tuple[Dataset, dict[str, Dataset]]:
    """Renders what is not there yet.

    Args:
        world: what to render.
        root: folder of the files, one folder a part in it.
        label_set: `all` draws classes of the whole world; `base` trains on one half of the colors and shapes and
            evaluates it and the other half apart.

    Returns:
        As `read_recipe_data`: the training table, and the evaluation tables `all`, or `base` and `novel`. Where
        backdrops go with the labels, `out_of_context` has the trained classes in front of others.

    Raises:
        ValueError: `root` holds another world, or the world section asks for what cannot be.
    """
    if world.clips_per_class < 1:
        raise ValueError(f"world.clips_per_class is {world.clips_per_class}; training needs at least 1.")
    hardships = read_hardships(world)
    motions = MOTIONS if world.motions is None else tuple(world.motions)
    if label_set == "base":
        split = split_base_novel(world.seed, classes_per_side=world.num_classes, motions=motions)
        classes = {"train": split.base, "base": split.base, "novel": split.novel}
    else:
        drawn = draw_classes(world.seed, world.num_classes, motions=motions)
        classes = {"train": drawn, "all": drawn}
    if hardships.interactions:
        classes = {
            part: with_interactions(world.seed, labels, hardships.interactions) for part, labels in classes.items()
        }
    if hardships.speeds:
        classes = {part: with_speeds(world.seed, labels) for part, labels in classes.items()}
    if hardships.scene_bias:
        classes["out_of_context"] = classes["train"]

    tables = {}
    for part, labels in classes.items():
        clips = world.clips_per_class if part == "train" else world.eval_clips_per_class
        if clips > 0:
            rows = write_moving_shapes(
                Path(root) / part,
                labels,
                clips_per_class=clips,
                seed=_seed(world, part),
                num_frames=world.num_frames,
                resolution=world.resolution,
                trail_rate=world.trail_rate,
                second_object_rate=world.second_object_rate,
                hardships=replace(hardships, scene_bias=0.0) if part == "out_of_context" else hardships,
            )
            tables[part] = rows.select_columns([VIDEO_COLUMN, LABEL_COLUMN]).cast(
                video_features([str(c) for c in labels])
            )
    return tables.pop("train"), tables


def read_hardships(world: RecipeWorld) -> Hardships:
    """Those of a recipe's world section.

    Raises:
        ValueError: an unknown one, or a value that cannot be.
    """
    return read_fields(Hardships, world.hardships, where="world.hardships")


def _seed(world: RecipeWorld, part: str) -> int:
    if part == "out_of_context":  # which worlds did not always have
        return 2 * _SEED_OFFSET + world.seed
    return len(_PARTS) * world.seed + _PARTS.index(part)


def random_label_splits(
    protocol: EvaluationProtocol, *, root: str | Path
) -> tuple[Dataset, dict[str, Part], list[str]]:
    """Renders a split for each seed, where that has not been done, and makes them the parts of one table.

    A split has labels of its own, and only they compete for its clips. See `EvaluationProtocol.label_content`; where
    labels do not tell the motion, clips do something drawn at random.

    Args:
        protocol: with `seeds`, `labels_per_split`, `clips_per_label` and `label_content`.
        root: folder of the rendered files.

    Returns:
        The table, its parts by name, and notes for the report.

    Raises:
        ValueError: more labels are wanted than there are, or `root` holds other clips.
    """
    paths: list[str] = []
    texts: list[str] = []
    parts: dict[str, Part] = {}
    names: list[str] = []
    for seed in protocol.seeds:
        classes = _draw(protocol, seed)
        rows = write_moving_shapes(
            Path(root) / f"{protocol.label_content}_seed{seed}",
            classes,
            clips_per_class=protocol.clips_per_label,
            seed=_SEED_OFFSET + seed,
        )
        own = [_text(classes[label], protocol) for label in rows[LABEL_COLUMN]]
        names += [text for text in dict.fromkeys(own) if text not in names]
        columns = np.array([names.index(text) for text in dict.fromkeys(own)])
        name = f"split {seed}"
        parts[name] = Part(name, np.arange(len(paths), len(paths) + len(own)), columns)
        paths += rows[VIDEO_COLUMN]
        texts += own
    labels = [names.index(text) for text in texts]
    table = Dataset.from_dict({VIDEO_COLUMN: paths, LABEL_COLUMN: labels}, features=video_features(names))
    return table, parts, [_note(protocol)]


def long_videos(protocol: DetectionProtocol, *, root: str | Path) -> SegmentTable:
    """Renders a long video for each seed, where that has not been done: one action after the other, with gaps.

    An action takes 3 to 8 seconds; in a third of the gaps nothing but the backdrop is there, for 2 to 5 seconds, in
    the others an object that is none of the labels.

    Args:
        protocol: with `seeds` and `labels_per_video`; all videos share their labels, which the first seed draws.
        root: folder of the rendered files.
    """
    classes = draw_classes(protocol.seeds[0], protocol.labels_per_video)
    labels = [str(c) for c in classes]
    folder = make_folder(root).resolve()
    videos, segments = [], []
    for seed in protocol.seeds:
        path = folder / f"long_{protocol.labels_per_video}_{protocol.seeds[0]}_{seed}.mp4"
        rng = np.random.default_rng([_SEED_OFFSET, seed])
        others = [c for c in draw_classes(rng, 2 * len(classes)) if c not in classes]
        pieces: list[torch.Tensor] = []
        seconds = 0.0
        for index in rng.permutation(np.repeat(np.arange(len(classes)), 2)):
            length = int(rng.integers(3, 9))
            pieces.append(_piece(rng, classes[index], length))
            segments.append(AnnotatedSegment(str(path), labels[index], seconds, seconds + length))
            gap = int(rng.integers(2, 6))
            pieces.append(_piece(rng, others[int(rng.integers(len(others)))], gap, is_empty=rng.random() < 1 / 3))
            seconds += length + gap
        if not path.exists():
            write_mp4(torch.cat(pieces), path, fps=LONG_VIDEO_FPS)
        videos.append(str(path))
    return SegmentTable(labels, videos, segments, f"Long videos rendered from seeds {list(protocol.seeds)}.")


def _piece(rng: np.random.Generator, shape: MovingShape, seconds: int, *, is_empty: bool = False) -> torch.Tensor:
    """Frames (T, 3, 64, 64) of one action; as long as a clip of the world, it plays once in two seconds."""
    scenes = draw_scenes(rng, classes=[shape])
    if is_empty:
        scenes = replace(scenes, motion=np.full_like(scenes.motion, UNSAID))
    frames = render_clips(scenes, num_frames=2 * LONG_VIDEO_FPS, resolution=64)[0]
    number = seconds * LONG_VIDEO_FPS
    return frames.repeat(-(-number // len(frames)), 1, 1, 1)[:number]


def _draw(protocol: EvaluationProtocol, seed: int) -> Sequence[MovingShape]:
    if protocol.label_content == "action":
        return draw_classes(seed, protocol.labels_per_split)
    rng = np.random.default_rng(seed)
    if protocol.label_content == "motion":
        # Round shapes cannot be seen spinning.
        objects = [drawn for drawn in draw_classes(rng, _ENOUGH) if drawn.shape not in ROUND]
        return all_classes(colors=[objects[0].color], shapes=[objects[0].shape])
    pairs = [all_classes(colors=[color], shapes=[shape]) for color in COLORS for shape in SHAPES]
    return [classes[rng.integers(len(classes))] for classes in pairs]


def _text(shape: MovingShape, protocol: EvaluationProtocol) -> str:
    return shape.appearance if protocol.label_content == "appearance" else str(shape)


def _note(protocol: EvaluationProtocol) -> str:
    seeds = ", ".join(map(str, protocol.seeds))
    if protocol.label_content == "appearance":
        return (
            f"Every color of every shape, each doing one of {len(MOTIONS)} things; clips rendered from seeds {seeds}."
        )
    drawn = "One object drawn with all its motions" if protocol.label_content == "motion" else "Labels drawn"
    return f"{drawn}, and clips rendered, from seeds {seeds}."
