"""The main job on a machine that has nothing yet: videos that are rendered here, in this world's own words.

Used by `froster demo`.
"""

from collections.abc import Sequence
from pathlib import Path

import torch

from .data.moving_shapes import MovingShape, draw_scenes, render_clips, write_mp4

DEMO_LABELS = ("a red star sliding left", "a blue square spinning", "a green ring growing", "a yellow heart bouncing")
STORY = "one_after_the_other.mp4"


def render_demo_videos(
    folder: str | Path, labels: Sequence[str] = DEMO_LABELS, *, seed: int = 0, num_frames: int = 16
) -> list[Path]:
    """Render an H.264 mp4 file for each label of the moving-shapes world, and one in which they follow each other.

    Args:
        folder: made when it is missing.
        labels: of the form "a COLOR SHAPE MOTION".
        seed: decides size, place and background.
        num_frames: frames a label, at 8 a second.

    Returns:
        The files, named by their labels; the last is `STORY`.

    Raises:
        ValueError: a label is not of this world.
    """
    folder = Path(folder)
    scenes = draw_scenes(seed, classes=[MovingShape.from_label(label) for label in labels])
    clips = render_clips(scenes, num_frames=num_frames, resolution=192)
    folder.mkdir(parents=True, exist_ok=True)
    files = [write_mp4(clip, folder / f"{label.replace(' ', '_')}.mp4") for clip, label in zip(clips, labels)]
    return [*files, write_mp4(torch.cat(list(clips)), folder / STORY)]
