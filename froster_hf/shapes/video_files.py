"""Clips as real video files, H.264 in mp4, written by PyAV; and those of `froster demo`."""

import os
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import torch

from ..printing import printable
from ..processing.text_files import read_text
from ..whole_files import make_folder, write_text_whole, written_whole
from .rendering import render_clips
from .scenes import draw_scenes
from .vocabulary import MovingShape

DEMO_LABELS = ("a red star sliding left", "a blue square spinning", "a green ring growing", "a yellow heart bouncing")
STORY = "one_after_the_other.mp4"
# Names the files in its folder that a demo has written, a line each: these alone are made again.
_WRITTEN_FILE = ".written_by_the_demo"
# Of a timeline of it: each label holds for two seconds.
STORY_WINDOWS = {"window_seconds": 2.0, "stride_seconds": 0.25, "smoothing_seconds": 0.5}


def write_mp4(frames: torch.Tensor | np.ndarray, path: str | Path, *, fps: int = 8, crf: int = 23) -> Path:
    """Write one clip as an mp4 file; the same frames give the same bytes.

    Args:
        frames: (T, 3, H, W) uint8 with even height and width (H.264 halves the color planes).
        path: the file to write; its folder must exist.
        fps: frames per second.
        crf: x264's quality, 0 (lossless) to 51; 23 is its default.

    Returns:
        The path.

    Raises:
        ValueError: the frames have another layout, type or an odd side.
    """
    frames = torch.as_tensor(frames)
    if frames.ndim != 4 or frames.shape[1] != 3 or frames.dtype != torch.uint8 or not len(frames):
        raise ValueError(
            f"Frames must be uint8 (T, 3, H, W) with T >= 1; received {frames.dtype} {tuple(frames.shape)}."
        )
    height, width = frames.shape[2:]
    if height % 2 or width % 2:
        raise ValueError(f"H.264 in 4:2:0 needs an even height and width; received {height}x{width}.")
    path = Path(path)
    # One thread, because x264's bytes depend on their number; no macroblock tree, because with it x264's vector code
    # writes different bytes for the same small pictures.
    options = {"crf": str(crf), "preset": "veryfast", "threads": "1", "x264-params": "mbtree=0"}
    with (
        written_whole(path) as part,
        av.open(str(part), "w", format="mp4", options={"movflags": "faststart"}) as container,
    ):
        stream = container.add_stream("libx264", rate=fps, options=options)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for picture in frames.permute(0, 2, 3, 1).contiguous().numpy():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def render_demo_videos(
    folder: str | Path,
    labels: Sequence[str] = DEMO_LABELS,
    *,
    seed: int = 0,
    num_frames: int = 16,
    beside: Sequence[str] = (),
) -> list[Path]:
    """Render an H.264 mp4 file for each label of the moving-shapes world, and one in which they follow each other.

    Args:
        folder: made when it is missing.
        labels: labels of the form "a COLOR SHAPE MOTION".
        seed: decides size, place and background.
        num_frames: frames per label, at 8 per second.
        beside: names of files that the caller will write into the folder.

    Returns:
        The files, named by their labels; the last is `STORY`.

    Raises:
        ValueError: a label is not of this world, or the folder holds a file of one of these names that was not
            rendered into it.
    """
    folder = make_folder(folder)
    names = [*(f"{label.replace(' ', '_')}.mp4" for label in labels), STORY]
    scenes = draw_scenes(seed, classes=[MovingShape.from_label(label) for label in labels])
    clips = render_clips(scenes, num_frames=num_frames, resolution=192)
    _claim_names(folder, [*names, *beside])
    return [write_mp4(clip, folder / name) for clip, name in zip([*clips, torch.cat(list(clips))], names)]


def _claim_names(folder: Path, names: Sequence[str]) -> None:
    """Note what a demo is going to write, unless something else has such a name there."""
    note = folder / _WRITTEN_FILE
    written = read_text(note, max_bytes=2**20).splitlines() if os.path.lexists(note) else []
    for name in names:
        if name not in written and os.path.lexists(folder / name):
            raise ValueError(
                f"{printable(str(folder))} holds {printable(name)}, which no demo has written; give another folder."
            )
    write_text_whole(note, "".join(f"{name}\n" for name in sorted({*written, *names})))
