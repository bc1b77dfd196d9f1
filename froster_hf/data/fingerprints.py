"""What a table of videos and a video processor hold, as values that can be compared with those of another time."""

import hashlib
import os
from collections.abc import Mapping
from typing import Any

from datasets import Dataset

from ..processing.sampling_froster import CALLERS_OPTIONS
from .video_table import VIDEO_COLUMN, label_array, label_names

NOT_PIXEL_OPTIONS = (*CALLERS_OPTIONS, "auto_map", "processor_class", "return_metadata", "video_processor_type")


def table_fingerprint(dataset: Dataset) -> str:
    """SHA-256 over label texts and, per row, label, size and name of the video (its content where it is embedded).

    Names are taken relative to the videos' common folder, so that the hash is the same on another machine. The content
    of files is not read: that would cost as much as decoding them.
    """
    digest = hashlib.sha256("\n".join(label_names(dataset)).encode())
    videos = dataset.select_columns([VIDEO_COLUMN])
    paths = [
        row["path"] for batch in videos.iter(batch_size=32) for row in batch[VIDEO_COLUMN] if row["bytes"] is None
    ]
    common = os.path.commonpath([os.path.dirname(path) for path in paths]) if paths else ""
    labels = label_array(dataset)
    start = 0
    for batch in videos.iter(batch_size=32):
        for label, row in zip(labels[start:], batch[VIDEO_COLUMN]):
            if row["bytes"] is not None:
                name, size = hashlib.sha256(row["bytes"]).hexdigest(), len(row["bytes"])
            else:
                name = os.path.relpath(row["path"], common).replace(os.sep, "/")
                size = os.path.getsize(row["path"]) if os.path.isfile(row["path"]) else -1
            digest.update(f"\n{label} {size} {name}".encode())
        start += len(batch[VIDEO_COLUMN])
    return digest.hexdigest()


def pixel_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a video processor that decide what the model sees; the others differ from one to the next."""
    return {name: value for name, value in sorted(options.items()) if name not in NOT_PIXEL_OPTIONS}
