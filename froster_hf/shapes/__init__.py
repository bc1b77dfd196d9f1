"""The moving-shapes world: an endless, offline stand-in for action videos, drawn by seeds.

classes (splits) -> scenes (what is shown) -> pixels (rendering) -> mp4 files, rows of `datasets`
                                           -> captions with their claims -> which captions are true of which scenes

Beside it: `pretraining/` of a small CLIP on its stills, `study/`, the paper's experiment in it, `tables.py`, which
recipes and protocols ask for, and `shipping.py`, which puts trained checkpoints into the package.
"""

from .captions import draw_captions, still_attributes
from .dataset import write_moving_shapes
from .rendering import render_clips, render_stills
from .scenes import Hardships, draw_scenes, ease
from .splits import draw_classes, split_base_novel, with_interactions, with_speeds
from .video_files import DEMO_LABELS, STORY, STORY_WINDOWS, render_demo_videos, write_mp4
from .vocabulary import (
    COLORS,
    INTERACTIONS,
    MOTIONS,
    OPPOSITES,
    SHAPES,
    UNSAID,
    MovingShape,
    all_classes,
    matches,
)

__all__ = [
    "COLORS",
    "DEMO_LABELS",
    "INTERACTIONS",
    "MOTIONS",
    "OPPOSITES",
    "SHAPES",
    "STORY",
    "STORY_WINDOWS",
    "UNSAID",
    "Hardships",
    "MovingShape",
    "all_classes",
    "draw_captions",
    "draw_classes",
    "draw_scenes",
    "ease",
    "matches",
    "render_clips",
    "render_demo_videos",
    "render_stills",
    "split_base_novel",
    "still_attributes",
    "with_interactions",
    "with_speeds",
    "write_moving_shapes",
    "write_mp4",
]
