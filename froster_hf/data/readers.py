"""Labels and Hub data sets: what a user brings as a file, a list or a `datasets` table.

Folders of videos are in `class_folders.py`, lists in `video_lists.py`, the official annotation files in
`official_lists.py`. All give the {video, label} table of `video_table.py`.
"""

import os
from collections.abc import Sequence
from typing import Any

import datasets
import numpy as np
import pyarrow.compute
from datasets import ClassLabel, Dataset, Value, Video

from ..printing import printable
from ..processing.label_files import read_label_file
from ..processing.prompts_froster import read_label_list
from ..processing.text_files import AnnotationError
from ..video.columns import without_video_decoding
from .safe_paths import UnsafePathError, VideoRoot
from .video_table import (
    LABEL_COLUMN,
    VIDEO_COLUMN,
    distinct_label_texts,
    refuse_other_labels,
    with_labels,
    written_name,
)


def read_labels(labels: Any) -> list[str]:
    """Label names in index order.

    Args:
        labels: the path of a file (`read_label_file`), or a list or mapping (`read_label_list`).

    Raises:
        AnnotationError: a form that is not known, indices with gaps, or a name that stands twice.
    """
    if isinstance(labels, (str, os.PathLike)):
        return list(read_label_file(labels).names)
    try:
        return list(read_label_list(labels, source="labels").names)
    except ValueError as error:
        raise AnnotationError(str(error)) from error


def as_video_table(
    dataset: Dataset,
    *,
    video_column: str | None = None,
    label_column: str = LABEL_COLUMN,
    roots: Sequence[str | os.PathLike] | None = None,
) -> Dataset:
    """Any data set with a `Video` column, as the {video, label} table; nothing is decoded or copied.

    Args:
        video_column: needed only where several columns are videos.
        label_column: `ClassLabel` (kept) or strings (sorted into a `ClassLabel`, without the blanks around them).
        roots: folders under which a row's path may lie when the row brings no bytes; relative paths count from the
            current folder. Default: the Hub and `datasets` caches, so that a downloaded table cannot point at other
            files of this machine.

    Raises:
        ValueError: no single video column, a label column without names, or a damaged table.
        AnnotationError: a row without a label, or with one that is none of the column's, or names without words or
            that nothing but blanks, accents or, of strings, capitals tells apart.
        UnsafePathError: a row's path leads out of `roots`.
    """
    videos = [name for name, feature in dataset.features.items() if isinstance(feature, Video)]
    if video_column is None and len(videos) == 1:
        video_column = videos[0]
    if video_column not in videos:
        raise ValueError(f"video_column={video_column!r}; the Video columns are {videos}. Name one of them.")
    if label_column not in dataset.features:
        raise ValueError(f"label_column={label_column!r}; the columns are {list(dataset.features)}.")
    table = without_video_decoding(dataset.with_format(None).select_columns([video_column, label_column]))
    table = table.rename_columns({video_column: VIDEO_COLUMN, label_column: LABEL_COLUMN})
    feature = table.features[LABEL_COLUMN]
    if isinstance(feature, Value) and feature.dtype in ("string", "large_string", "string_view"):
        written = table[LABEL_COLUMN][:]
        if None in written:
            raise AnnotationError(f"Row {written.index(None)} of the data set has no label.")
        # As people have typed them, and as in a list.
        written = [written_name(name, where="The label column") for name in written]
        names = sorted(set(written))
        distinct_label_texts(names, where="The label column", ignore_case=True)
        index_of = {name: index for index, name in enumerate(names)}
        table = with_labels(table, np.array([index_of[name] for name in written]), names)
    elif not isinstance(feature, ClassLabel):
        raise ValueError(
            f"The label column is {feature}. It must be a ClassLabel or strings: cast it with the label texts."
        )
    else:
        distinct_label_texts(feature.names, where="The label column")
        refuse_other_labels(table)
    _check_row_paths(table, roots)
    return table


def _check_row_paths(table: Dataset, roots: Sequence[str | os.PathLike] | None) -> None:
    if roots is None:
        from huggingface_hub.constants import HF_HUB_CACHE

        roots = [HF_HUB_CACHE, datasets.config.HF_DATASETS_CACHE]
    # Rows are opened as they are written.
    video_roots = [VideoRoot(root, relative_to=".") for root in roots if os.path.isdir(root)]
    row = 0
    for batch in table.with_format("arrow").iter(batch_size=32):
        # Field by field: rows of a table with embedded videos must not become Python bytes only to look at their
        # paths.
        for chunk in batch.column(VIDEO_COLUMN).chunks:
            # Of a row that is null, whatever its fields hold.
            paths, contents = (pyarrow.compute.struct_field(chunk, name) for name in ("path", "bytes"))
            for path, has_bytes in zip(paths.to_pylist(), contents.is_valid().to_pylist()):
                if not has_bytes:
                    _resolve_under_any(path, video_roots, f"row {row} of the data set")
                row += 1


def _resolve_under_any(path: str | None, roots: Sequence[VideoRoot], where: str) -> None:
    if not path:
        raise AnnotationError(f"{where} has neither a path nor bytes.")
    for root in roots:
        try:
            root.resolve(path, where=where)
            return
        except UnsafePathError:
            continue
    listed = ", ".join(printable(str(root.path)) for root in roots) or "none that exists"
    raise UnsafePathError(
        f"{where}: the video {printable(path)[:300]} lies outside the data roots ({listed}). If the videos are your "
        f"own, as with load_dataset('videofolder', data_dir=...), pass their folder: "
        f"roots=[{printable(os.path.dirname(path))[:300]!r}]."
    )
