"""A folder of class folders as a {video, label} table, and what the folder holds besides."""

import logging
import os
from collections import Counter
from pathlib import Path

from datasets import Dataset

from ..printing import get_logger, listing, printable
from ..processing.text_files import AnnotationError, shown_path
from ..video.files import is_hidden, search_folder
from .safe_paths import VideoRoot
from .video_table import ListedClip, MissingFiles, distinct_label_texts, video_table

logger = get_logger(__name__)

# Names of the parts of a data set, in the spellings that are in use.
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "eval"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}


def read_video_folder(
    root: str | os.PathLike, *, missing: MissingFiles = "error", allow_links: bool = False
) -> Dataset:
    """Reads `root/<class folder>/**/<video>`; a class folder's name as words is the label.

    Folders without a video, hidden files and folders, and files without a video's suffix are passed over; how many of
    each is logged and kept for `describe_table`. Classes and files are sorted, so the rows do not depend on the file
    system.

    Args:
        root: the folder, also one of a download of the Hub, whose files are links.
        missing: what to do with links that lead nowhere, and what else is not a file; see `video_table`.
        allow_links: whether links may lead out of `root`, as in a folder of links to chosen videos.

    Raises:
        AnnotationError: no class folder or no video, or see `video_table`; folders that are parts of a data set
            (train, val, test), not classes; two folders that spell one class in two ways.
        UnsafePathError: a symbolic link leads out of `root`.
    """
    video_root = VideoRoot(root, allow_links=allow_links)
    passed_over: Counter[str] = Counter()
    found: dict[str, list[Path]] = {}
    for entry in sorted(video_root.path.iterdir()):
        if not entry.is_dir() or is_hidden(entry.name):
            passed_over["hidden" if is_hidden(entry.name) else "beside the class folders"] += 1
            continue
        content = search_folder(entry)
        passed_over.update(content.passed_over)
        if content.videos:
            found[entry.name] = content.videos
        else:
            passed_over[f"folder without a video: {printable(entry.name)}"] += 1
    if not found:
        raise AnnotationError(
            f"{shown_path(video_root.path)} has no class folders with videos. Expected root/<class>/<video>"
            f"{_said(passed_over, '; found and passed over: ')}."
        )
    _refuse_splits(video_root.path, list(found))
    texts = distinct_label_texts(found, where=printable(str(video_root.path)), ignore_case=True)
    clips = [
        ListedClip(video_root.resolve(str(file), where=shown_path(file.parent)), index, shown_path(file))
        for index, videos in enumerate(found.values())
        for file in videos
    ]
    source = f"Read from {printable(str(video_root.path))}."
    if passed_over:
        source += f" Passed over: {_said(passed_over)}."
        # Every system leaves hidden files; all else may be videos that the user expects to be there.
        logger.log(logging.WARNING if set(passed_over) - {"hidden"} else logging.INFO, "%s", source)
    return video_table(clips, labels=texts, missing=missing, source=source)


def _refuse_splits(root: Path, folders: list[str]) -> None:
    """One class may be called `train`; several parts of a data set, or nothing else, are not classes."""
    splits = {name: SPLIT_NAMES[name.lower()] for name in folders if name.lower() in SPLIT_NAMES}
    if len(splits) == len(folders) or len(set(splits.values())) > 1:
        raise AnnotationError(
            f"The folders {listing(splits)} in {printable(str(root))} are parts of a data set, not classes. Read one "
            f"of them, such as {printable(str(root / next(iter(splits))))}."
        )


def _said(passed_over: Counter[str], introduction: str = "") -> str:
    """Counts as words, most frequent first; no more than a line can hold."""
    said = [what if what.startswith("folder ") else f"{count} {what}" for what, count in passed_over.most_common()]
    return introduction + listing(said, limit=12) if said else ""
