"""`datasets` over the moving-shapes world: folders of mp4 files."""

import contextlib
import csv
import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from datasets import ClassLabel, Dataset, Features, Value

from ..printing import printable
from ..processing.text_files import read_json
from ..whole_files import full_disk_named, make_folder, refuse_irregular, write_text_whole, written_whole
from .captions import draw_captions
from .rendering import render_clips
from .scenes import NO_HARDSHIPS, Hardships, draw_scenes
from .video_files import write_mp4
from .vocabulary import MovingShape

_RECIPE_FILE = "moving_shapes.json"
# There until all is rendered.
_UNFINISHED_FILE = "moving_shapes.unfinished"
# As `load_dataset("videofolder", data_dir=...)` reads it.
_METADATA_FILE = "metadata.csv"
_CLIPS_AT_ONCE = 16
# x264's default quality.
_CRF = 23


def write_moving_shapes(
    root: str | Path,
    classes: Sequence[MovingShape],
    *,
    clips_per_class: int,
    seed: int,
    num_frames: int = 16,
    resolution: int | tuple[int, int] = 192,
    fps: int = 8,
    trail_rate: float = 0.0,
    second_object_rate: float = 0.0,
    hardships: Hardships = NO_HARDSHIPS,
) -> Dataset:
    """Render mp4 files into a folder and describe them as a dataset.

    The folder is also what `load_dataset("videofolder", data_dir=root)` takes. A folder that was completed with the
    same arguments is used again without rendering.

    Args:
        root: the folder, made when it is missing.
        classes: K classes; their labels are the names of the `label` feature.
        clips_per_class: files per class.
        seed: decides everything that the other arguments leave open.
        num_frames: frames a file.
        resolution: side or (height, width) in pixels, even.
        fps: frames per second.
        trail_rate: the share of clips in which objects leave a trail.
        second_object_rate: the share of clips with a second, unlabeled object.
        hardships: what makes them harder.

    Returns:
        K * clips_per_class rows, class by class: `video` (path of the file), `label`, `caption`.

    Raises:
        ValueError: the folder holds clips of other arguments, or files of these names that were not rendered into it.
    """
    root = Path(root)
    recipe = {
        "classes": [str(c) for c in classes],
        "clips_per_class": clips_per_class,
        "seed": seed,
        "num_frames": num_frames,
        "resolution": resolution if isinstance(resolution, int) else list(resolution),
        "fps": fps,
        "trail_rate": trail_rate,
        "second_object_rate": second_object_rate,
        **({"hardships": hardships.told} if hardships.told else {}),
    }
    told = json.dumps(recipe, indent=2)
    recipe_file = root / _RECIPE_FILE
    for stored in (recipe_file, root / _UNFINISHED_FILE, root / _METADATA_FILE):
        refuse_irregular(stored)
    names = [f"{index:06d}.mp4" for index in range(len(classes) * clips_per_class)]
    labels = np.repeat(np.arange(len(classes)), clips_per_class)
    rng = np.random.default_rng(seed)
    scenes = draw_scenes(
        rng,
        classes=[classes[label] for label in labels.tolist()],
        trail_rate=trail_rate,
        second_object_rate=second_object_rate,
        hardships=hardships,
    )
    captions = draw_captions(rng, scenes.attributes)
    if not recipe_file.exists():
        _claim(root, told, [*names, _METADATA_FILE])
        qualities = np.random.default_rng([seed, 1]).integers(_CRF, hardships.max_crf + 1, len(labels))
        for start in range(0, len(labels), _CLIPS_AT_ONCE):
            clips = render_clips(scenes[start : start + _CLIPS_AT_ONCE], num_frames=num_frames, resolution=resolution)
            for name, clip, crf in zip(names[start:], clips, qualities[start:].tolist()):
                write_mp4(clip, root / name, fps=fps, crf=crf)
        with written_whole(root / _METADATA_FILE) as part, open(part, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["file_name", "label", "caption"])
            writer.writerows(zip(names, (str(classes[int(label)]) for label in labels), captions.texts))
        # Written last: a folder without it is not complete.
        write_text_whole(recipe_file, told)
        (root / _UNFINISHED_FILE).unlink(missing_ok=True)
    elif read_json(recipe_file) != recipe:
        raise ValueError(f"{root} holds clips made with other arguments (see {recipe_file}); give another folder.")
    # As they were made, whatever `metadata.csv` has become.
    columns = {"video": [str(root / name) for name in names], "label": labels, "caption": captions.texts}
    label = ClassLabel(names=[str(c) for c in classes])
    features = Features({"video": Value("string"), "label": label, "caption": Value("string")})
    return Dataset.from_dict(columns, features=features)


def _claim(root: Path, told: str, names: Sequence[str]) -> None:
    """Makes a folder one in which clips of these arguments are being made.

    Raises:
        ValueError: it is one of other arguments, or holds files of these names that were not rendered into it.
    """
    unfinished = root / _UNFINISHED_FILE
    make_folder(root)
    if not unfinished.exists():
        for name in names:
            if os.path.lexists(root / name):
                raise ValueError(
                    f"{printable(str(root))} holds {name}, which was not rendered into it; give another folder."
                )
        # Only the first of several that render into it at the same time makes this file.
        with (
            contextlib.suppress(FileExistsError),
            full_disk_named(unfinished),
            open(unfinished, "x", encoding="utf-8") as file,
        ):
            try:
                file.write(told)
                file.flush()
            except OSError:
                unfinished.unlink()  # or it would seem to be of other arguments
                raise
    if unfinished.read_text(encoding="utf-8") != told:
        raise ValueError(
            f"Clips are being made in {printable(str(root))} with other arguments, or were "
            f"(see {unfinished.name}); give another folder."
        )
