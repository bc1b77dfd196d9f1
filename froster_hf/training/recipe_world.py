"""The data of `format: moving_shapes`: classes drawn and mp4 files rendered from a recipe's world section."""

from pathlib import Path
from typing import Literal

from datasets import Dataset

from ..data.moving_shapes import MOTIONS, draw_classes, split_base_novel, write_moving_shapes
from ..data.video_table import LABEL_COLUMN, VIDEO_COLUMN, video_features
from .recipes import RecipeWorld

# Seeds of one world's files are apart from those of every other world.
_PARTS = ("train", "all", "base", "novel")


def render_world(
    world: RecipeWorld, *, root: str | Path, label_set: Literal["all", "base"]
) -> tuple[Dataset, dict[str, Dataset]]:
    """Renders what is not there yet.

    Args:
        world: what to render.
        root: folder of the files, one folder a part in it.
        label_set: `all` draws classes of the whole world; `base` trains on one half of the colours and shapes and
            evaluates it and the other half apart.

    Returns:
        As `read_recipe_data`: the training table, and the evaluation tables `all`, or `base` and `novel`.

    Raises:
        ValueError: `root` holds another world, or the world section asks for what cannot be.
    """
    if world.clips_per_class < 1:
        raise ValueError(f"world.clips_per_class is {world.clips_per_class}; training needs at least 1.")
    motions = MOTIONS if world.motions is None else tuple(world.motions)
    if label_set == "base":
        split = split_base_novel(world.seed, classes_per_side=world.num_classes, motions=motions)
        classes = {"train": split.base, "base": split.base, "novel": split.novel}
    else:
        drawn = draw_classes(world.seed, world.num_classes, motions=motions)
        classes = {"train": drawn, "all": drawn}

    tables = {}
    for part, labels in classes.items():
        clips = world.clips_per_class if part == "train" else world.eval_clips_per_class
        if clips > 0:
            rows = write_moving_shapes(
                Path(root) / part,
                labels,
                clips_per_class=clips,
                seed=len(_PARTS) * world.seed + _PARTS.index(part),
                num_frames=world.num_frames,
                resolution=world.resolution,
                trail_rate=world.trail_rate,
                second_object_rate=world.second_object_rate,
            )
            tables[part] = rows.select_columns([VIDEO_COLUMN, LABEL_COLUMN]).cast(
                video_features([str(c) for c in labels])
            )
    return tables.pop("train"), tables
