"""A data set of small real videos in the layout of HMDB-51, with official-looking lists."""

from pathlib import Path

import av
import numpy as np
import pytest

from froster_hf.evaluation import EvaluationData

CLASSES = ("brush_hair", "cartwheel", "kick_ball", "wave")
NUM_TESTED = 3


def write_clip(path: Path, *, seed: int, num_frames: int = 12) -> Path:
    """A few frames of drifting colored noise, MPEG-4 in AVI as HMDB-51's are; each seed looks different."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 255, (6, 8, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.thread_count = 1
        for index in range(num_frames):
            picture = np.roll(coarse, index, axis=1).repeat(8, axis=0).repeat(8, axis=1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="session")
def hmdb51_data(tmp_path_factory) -> EvaluationData:
    """Four classes of three tested clips; `kick_ball` and `wave` are the frequent ones in training."""
    folder = tmp_path_factory.mktemp("hmdb51")
    root, lists = folder / "videos", folder / "splits"
    lists.mkdir()
    for number, name in enumerate(CLASSES):
        clips = [write_clip(root / name / f"{name}_clip_{i}.avi", seed=10 * number + i) for i in range(NUM_TESTED)]
        training = "".join(f"not_there_{i}.avi 1 \n" for i in range(2 + number))
        for fold in (1, 2, 3):
            # Fold f leaves one clip unused, so that the folds differ.
            marks = [2 if fold == 1 or i != fold - 1 else 0 for i in range(NUM_TESTED)]
            tested = "".join(f"{clip.name} {mark} \n" for clip, mark in zip(clips, marks))
            (lists / f"{name}_test_split{fold}.txt").write_text(tested + training)
    return EvaluationData(root=str(root), annotations=str(lists))
