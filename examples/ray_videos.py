"""Embed or classify a folder or bucket of videos with Ray, one Parquet file per part of the list of videos.

    python examples/ray_videos.py videos/ embeddings/ --model visual-ai/froster-b16 --workers 4
    python examples/ray_videos.py s3://bucket/videos s3://bucket/answers --labels "riding a bike,juggling"

A part's file appears when it is whole. Started again with the same arguments, the job does the parts whose files are
missing; with others, it says what differs and stops. Ray gives the part of a worker that dies to another one. Which
video is in which part depends on the sorted list of videos alone: the files are the same for any number of workers.

Needs the extra `ray`; buckets need fsspec's package for them (s3fs, gcsfs). On a cluster, `ray job submit` runs it,
and all machines have to see the same addresses.
"""

import argparse
import json
import os
from typing import Any

import fsspec
import pyarrow
import pyarrow.parquet
import ray
import ray.data

from froster_hf.integrations import ClassifyVideos, EmbedVideos
from froster_hf.printing import listing

ENDINGS = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".mpg", ".mpeg", ".ts", ".flv", ".wmv")
JOB_FILE = "job.json"
ANSWERS = {
    "embedding": pyarrow.list_(pyarrow.float32()),
    "labels": pyarrow.list_(pyarrow.string()),
    "scores": pyarrow.list_(pyarrow.float32()),
    "error": pyarrow.string(),
}


class WritePart:
    """Answers the videos of one part and writes its file. One per worker, with its own copy of the model."""

    def __init__(self, source: str, output: str, model: str, labels: list[str] | None):
        self.output = output
        self.answer = EmbedVideos(model) if labels is None else ClassifyVideos(model, labels)
        if "://" in source:
            # What the caller named may be opened, and what lies below it.
            self.answer.pipeline.processor.video_processor.allow_urls = [source]

    def __call__(self, part: dict[str, Any]) -> dict[str, Any]:
        videos = list(part["videos"])
        found = self.answer({"video": videos})
        columns = {"video": pyarrow.array(videos, pyarrow.string())}
        columns |= {name: pyarrow.array(found[name], ANSWERS[name]) for name in self.answer.answer_columns}
        write_whole(pyarrow.table(columns), self.output, part["file"])
        return {"file": part["file"], "videos": len(videos), "failed": sum(error != "" for error in found["error"])}


def write_whole(table: pyarrow.Table, folder: str, name: str) -> None:
    """Write under a name of this process's own first, then move: a kill leaves no half file in the part's place."""
    system, path = fsspec.core.url_to_fs(folder)
    unfinished = f"{path}/.unfinished-{os.getpid()}-{name}"
    with system.open(unfinished, "wb") as file:
        pyarrow.parquet.write_table(table, file)
    system.mv(unfinished, f"{path}/{name}")


def list_videos(source: str) -> tuple[str, list[str]]:
    """The folder's own address, and the videos in it and below it, sorted, as addresses that every worker can open."""
    system, path = fsspec.core.url_to_fs(source)
    files = sorted(file for file in system.find(path) if file.lower().endswith(ENDINGS))
    # Names on Linux are bytes, and columns of Arrow are text.
    found = [file for file in files if is_text(file)]
    if unnamed := [file for file in files if not is_text(file)]:
        print(f"{len(unnamed)} videos are left out, since their names are not UTF-8: {listing(unnamed, limit=10)}")
    if not found:
        raise SystemExit(f"{source} holds no videos; their names end in {', '.join(ENDINGS)}.")
    if isinstance(system, fsspec.implementations.local.LocalFileSystem):
        return path, found
    return system.unstrip_protocol(path), [system.unstrip_protocol(file) for file in found]


def is_text(name: str) -> bool:
    """Whether a file's name can be written in UTF-8."""
    return name.encode(errors="ignore").decode() == name


def check_same_job(job: dict[str, Any], folder: str) -> None:
    """Keep what the job is about beside its files; raise where the folder holds another job's."""
    system, path = fsspec.core.url_to_fs(folder)
    system.makedirs(path, exist_ok=True)
    file = f"{path}/{JOB_FILE}"
    if not system.exists(file):
        with system.open(file, "w") as stream:
            json.dump(job, stream)
        return
    with system.open(file) as stream:
        before = json.load(stream)
    if differs := [name for name in job if job[name] != before.get(name)]:
        raise SystemExit(f"{folder} holds the answers of a job with other {', '.join(differs)}. Give another folder.")


def main(arguments: list[str] | None = None) -> dict[str, int]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="folder or bucket of videos")
    parser.add_argument("output", help="folder or bucket for the answers")
    parser.add_argument("--model", default="visual-ai/froster-b16", help="checkpoint; default: %(default)s")
    parser.add_argument("--labels", help="labels, separated by commas; without them, videos are embedded")
    parser.add_argument("--workers", type=int, default=2, help="copies of the model; default: %(default)s")
    parser.add_argument("--gpus-per-worker", type=float, default=0, help="default: %(default)s")
    parser.add_argument("--videos-per-file", type=int, default=256, help="default: %(default)s")
    options = parser.parse_args(arguments)

    labels = [label.strip() for label in options.labels.split(",")] if options.labels else None
    source, videos = list_videos(options.source)
    size = options.videos_per_file
    job = {"videos": videos, "model": options.model, "labels": labels, "videos_per_file": size}
    check_same_job(job, options.output)

    count = -(-len(videos) // size)
    parts = [
        {"file": f"part-{number:05d}-of-{count:05d}.parquet", "videos": videos[number * size : (number + 1) * size]}
        for number in range(count)
    ]
    system, path = fsspec.core.url_to_fs(options.output)
    missing = [part for part in parts if not system.exists(f"{path}/{part['file']}")]
    print(f"{len(videos)} videos in {count} parts, {count - len(missing)} of them answered before")
    done = {"videos": 0, "failed": 0}
    if missing:
        ray.init(ignore_reinit_error=True)
        # A block of its own per part: what a dying worker takes with it is one part.
        answers = ray.data.from_items(missing, override_num_blocks=len(missing)).map(
            WritePart,
            fn_constructor_args=[source, options.output, options.model, labels],
            concurrency=min(options.workers, len(missing)),
            num_gpus=options.gpus_per_worker,
        )
        for row in answers.iter_rows():
            done = {name: done[name] + row[name] for name in done}
            print(f"{row['file']}: {row['videos']} videos, {row['failed']} could not be read", flush=True)
    return done


if __name__ == "__main__":
    main()
