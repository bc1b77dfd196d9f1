"""Public copies of data sets on the Hub: fetched, unpacked, and their videos and lists found.

The copies are other people's, in layouts of their own: the lists are known by their names, the videos by the folders
of classes that they lie in. Whether all clips are there, the readers say.
"""

import os
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

from huggingface_hub import snapshot_download

from ..printing import printable
from ..video.files import VIDEO_SUFFIXES, is_video_name
from ..whole_files import new_folder
from .catalogue import DATASETS, FORMATS, DataFiles

ARCHIVE_ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz")


def fetch_hub_copy(
    dataset: str,
    folder: str | os.PathLike[str],
    *,
    repo_id: str | None = None,
    annotations: str | os.PathLike[str] | None = None,
) -> DataFiles:
    """Fetch a copy of a data set into a folder; what is there already is not fetched again.

    Args:
        dataset: a key of `DATASETS` with a copy on the Hub.
        folder: to keep the files in.
        repo_id: another data set repository than the first that the catalogue names.
        annotations: the official lists, where the copy has none.

    Returns:
        Where the videos and the lists are, as the readers and protocols take it.

    Raises:
        ValueError: no copy is known, or its videos or lists are not found.
    """
    entry = DATASETS[dataset]
    repo_id = repo_id or next(iter(entry.hub_copies), None)
    if repo_id is None:
        raise ValueError(f"No copy of {entry.title} on the Hub is known. Name one with `repo_id`.")
    folder = Path(folder)
    fetched = Path(snapshot_download(repo_id, repo_type="dataset", local_dir=folder / "fetched"))
    for archive in sorted(path for path in fetched.rglob("*") if path.name.endswith(ARCHIVE_ENDINGS)):
        _unpack(archive, folder / "unpacked" / archive.relative_to(fetched).as_posix().replace("/", "-"))
    files = [path for path in folder.rglob("*") if path.is_file()]
    places = Counter(path.parent.parent for path in files if is_video_name(path.name))
    if not places:
        endings = Counter(path.suffix for path in files).most_common(5)
        raise ValueError(
            f"{printable(repo_id)} has no videos ({', '.join(sorted(VIDEO_SUFFIXES))}), also not in its archives "
            f"({', '.join(ARCHIVE_ENDINGS)}), but files of {', '.join(printable(ending) for ending, _ in endings)}. "
            "Name another copy with `repo_id`."
        )
    if annotations is None:
        pattern = FORMATS[entry.format].list_pattern
        lists = sorted({path.parent for path in folder.rglob(pattern)}) if pattern else []
        if not lists:
            raise ValueError(
                f"{printable(repo_id)} has no official lists ({pattern}). Give the folder that has them with "
                "`annotations`."
            )
        annotations = lists[0]
    return DataFiles(root=places.most_common(1)[0][0], annotations=annotations)


def _unpack(archive: Path, target: Path) -> None:
    """Unpack an archive into a folder of its own, once; nothing of it is written outside of that."""
    if target.exists():
        return
    with new_folder(target) as folder:
        if archive.name.endswith(".zip"):
            with zipfile.ZipFile(archive) as opened:
                opened.extractall(folder)
        else:
            with tarfile.open(archive) as opened:
                opened.extractall(folder, filter="data")
