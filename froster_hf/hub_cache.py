"""The layout of the Hub's cache: a downloaded folder is made of links, all into the `blobs` of the same entry."""

from pathlib import Path


def blobs_of_snapshot(folder: Path) -> Path | None:
    """The folder that the links of a snapshot lead to, for `<entry>/snapshots/<revision>` or a folder below it.

    Args:
        folder: resolved.

    Returns:
        `<entry>/blobs`, or `None` where `folder` is not part of a cache entry.
    """
    for revision in (folder, *folder.parents):
        if revision.parent.name == "snapshots":
            blobs = revision.parent.parent / "blobs"
            # A link in its place would lead anywhere.
            return blobs if blobs.is_dir() and not blobs.is_symlink() else None
    return None
