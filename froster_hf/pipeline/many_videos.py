"""`predict_videos`: a pipeline over many videos, in pieces and after kills, into a file of answers.

videos --part of the shard, without those that the file has--> pipeline --> one record per video --> file
"""

import csv
import hashlib
import json
import math
import os
import sys
from collections import UserList
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from ..fingerprints import architecture_of, model_fingerprint
from ..printing import json_text, listing, printable
from ..video.files import path_state
from ..video.stores import is_address
from ..whole_files import (
    begins_with_json,
    bounded_lines,
    full_disk_named,
    may_be_torn,
    prepare_file,
    refuse_other_names,
    refuse_results,
    worked_in_alone,
    write_text_whole,
    written_whole,
)
from .pipeline_froster import SCORING_OPTIONS
from .scoring_froster import NONE_OF_THESE, whole_number
from .timeline_files import spreadsheet_cell

FORMATS = (".jsonl", ".csv")
# How a record begins, whole or cut short.
RECORD_BEGIN = b'{"video": '
# The most of a record beside the answers for the labels of this call: a path, an error, answers for other labels.
MOST_RECORD_BYTES = 2**20


class OtherAnswersError(ValueError):
    """A file of answers cannot be gone on with: they were made with another model, labels or options, or of another
    video under the same name."""


def predict_videos(
    classify: Any,
    videos: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    *,
    output: str | os.PathLike[str] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    shard: tuple[int, int] = (1, 1),
    **options: Any,
) -> Iterator[dict[str, Any]]:
    """Scores videos one after the other, and gives a record for each as it is there.

    Args:
        classify: zero-shot pipeline (`froster_hf.load_pipeline`).
        videos: paths, each once, or a single one; `-` is standard input, a whole file.
        output: file of the answers. `.jsonl` has a record per line, each written when it is there; `.csv`, a line per
            answer, appears when all are.
        resume: go on with the answers of `output` (`.jsonl`): videos that it has are passed over, failed ones too,
            where the file is as it was (size and time). Addresses are known by themselves: stores are not asked.
        overwrite: replace the answers that `output` has, with the first record or the whole table.
        shard: (k, n): the k-th of n parts, counted from 1, for machines side by side; every n-th video.
        options: options of the pipeline's call, such as `candidate_labels`, `top_k`, `batch_size` and `num_workers`.

    Returns:
        An iterator of `{"video", "answers"}`, or `{"video", "error"}` for one that cannot be read or scored. Until it
        ends, or is closed (`close`), no other run goes on with the file.

    Raises:
        ResultExistsError: `output` has answers, and neither of the two was asked for.
        ValueError: labels, options, a shard or a file that cannot be, standard input that workers are to read, or
            another run is at work in the file.
        OtherAnswersError: see `resume`.
        OSError: the file cannot be written.
    """
    part, parts = shard
    if not 1 <= part <= parts:
        raise ValueError(f"The shard is {part}/{parts}; it must be one of 1/{parts} to {parts}/{parts}.")
    given = [videos] if isinstance(videos, str | os.PathLike) else videos
    own = list(dict.fromkeys(os.fspath(video) for video in given))[part - 1 :: parts]
    path = None if output is None else Path(output)
    if path is not None:
        _check_output(path, resume=resume, overwrite=overwrite)
    built_with = {**classify._preprocess_params, **classify._forward_params, **classify._postprocess_params}
    asked = built_with | {name: value for name, value in options.items() if value is not None}
    if "-" in own and asked.get("num_workers", classify._num_workers):
        # Python closes it in the processes that it forks.
        raise ValueError(
            "Standard input (-) cannot be read by worker processes. Leave out `num_workers`, or name a file."
        )
    # Wrong labels are one error, not one for every video.
    classify.label_embeds(**_label_options(asked))
    settings = "" if path is None else settings_of(classify, asked | _stored_labels(classify, asked))
    done: dict[str, str] = {}
    begun = path is not None and resume and path.exists()
    with ExitStack() as holding:
        if path is not None and resume:
            if begun:
                holding.enter_context(worked_in_alone(path))
            done = _read_done(path, settings, *_answers_check(classify, asked))
            _refuse_other_videos(path, {video: done[video] for video in own if video in done})
        left = [video for video in own if video not in done]
        return _records(
            classify, left, path, settings, options, begun=begun, overwrite=overwrite, holding=holding.pop_all()
        )


def _records(
    classify: Any,
    videos: Sequence[str],
    path: Path | None,
    settings: str,
    options: dict[str, Any],
    *,
    begun: bool,
    overwrite: bool,
    holding: ExitStack,
) -> Iterator[dict[str, Any]]:
    # Unlike a list, read as the answers are asked for: each record is there before the next videos are waited for.
    sources = UserList(sys.stdin.buffer if video == "-" else video for video in videos)
    # Before they are read: one that is replaced meanwhile has another state afterward.
    states = {} if path is None else {video: _state_of(video) for video in videos}
    with holding, _writing(path, settings, begun=begun, overwrite=overwrite, holding=holding) as write:
        answers = classify(sources, **{**options, "on_error": "return"})
        for video, found in zip(videos, answers):
            failed = isinstance(found, Exception)
            record: dict[str, Any] = (
                {"video": video, "error": str(found)} if failed else {"video": video, "answers": found}
            )
            write({**record, "state": states.get(video, "")})
            yield record


@contextmanager
def _writing(
    path: Path | None, settings: str, *, begun: bool, overwrite: bool, holding: ExitStack
) -> Iterator[Callable[[dict[str, Any]], None]]:
    """What a record is given to; a table (.csv) appears when it is whole, and a file of records with the first one."""
    if path is None:
        yield lambda record: None
    elif path.suffix == ".csv":
        with (
            written_whole(path, overwrite=overwrite) as part,
            part.open("w", encoding="utf-8", newline="") as file,
        ):
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["video", "label", "score", "error"])
            yield lambda record: writer.writerows(_csv_rows(record))
    else:
        records = _Records(path, settings, begun=begun, overwrite=overwrite, holding=holding)
        yield records.write
        if not records.begun:
            write_text_whole(path, "", overwrite=overwrite)


class _Records:
    """A file of records, in which each is there whole as soon as it is written.

    Args:
        path: the file.
        settings: of each record.
        begun: whether it is gone on with; otherwise the first record makes it.
        overwrite: whether the first record may replace what is there by then.
        holding: the locks of the run, which is at work in the file alone.
    """

    def __init__(self, path: Path, settings: str, *, begun: bool, overwrite: bool, holding: ExitStack):
        self.path, self.settings, self.begun, self.overwrite = path, settings, begun, overwrite
        self.holding = holding

    def write(self, record: dict[str, Any]) -> None:
        """Add a record; on a full disk, the file is left as it was."""
        line = json_text({**record, "settings": self.settings}) + "\n"
        if not self.begun:
            # Another process may have begun it since it was looked for.
            refuse_results(self.path, overwrite=self.overwrite, resumable=True)
            # Nor is it replaced while another one adds to it, which opens it by its name.
            replaced = self.path.is_file() and not self.path.is_symlink()
            with worked_in_alone(self.path) if replaced else nullcontext():
                write_text_whole(self.path, line, overwrite=self.overwrite)
                self.holding.enter_context(worked_in_alone(self.path))
            self.begun = True
            return
        # Without a buffer, which would be written at the end whatever has failed.
        with full_disk_named(self.path), self.path.open("ab", buffering=0) as file:
            size, rest = file.tell(), line.encode()
            try:
                while rest:
                    rest = rest[file.write(rest) :]
            except OSError:
                file.truncate(size)
                raise


def _csv_rows(record: dict[str, Any]) -> list[list[Any]]:
    video = spreadsheet_cell(record["video"])
    if "error" in record:
        return [[video, "", "", spreadsheet_cell(record["error"])]]
    return [
        [video, spreadsheet_cell(answer["label"]), "" if answer["score"] is None else f"{answer['score']:.6f}", ""]
        for answer in record["answers"]
    ]


def check_format(path: Path, *, resume: bool) -> None:
    """Refuse a file in which answers are not written, or not gone on with.

    Raises:
        ValueError: its name has another ending.
    """
    if path.suffix not in FORMATS:
        raise ValueError(f"Answers are written to {' or '.join(FORMATS)} files, not to {printable(str(path))}.")
    if resume and path.suffix != ".jsonl":
        raise ValueError(f"Only .jsonl files can be gone on with, not {printable(str(path))}.")


def _check_output(path: Path, *, resume: bool, overwrite: bool) -> None:
    if resume and overwrite:
        raise ValueError("A file of answers is either gone on with or overwritten; ask for one of the two.")
    check_format(path, resume=resume)
    # A new file takes the place of one that is there, whose other names keep what they have.
    if resume or path.is_symlink():
        refuse_other_names(path)
    prepare_file(path, overwrite=overwrite, resumable=path.suffix == ".jsonl", resume=resume)


def _label_options(options: dict[str, Any]) -> dict[str, Any]:
    template = options.get("hypothesis_template")
    return {
        "candidate_labels": options.get("candidate_labels"),
        "background_labels": options.get("background_labels"),
        "templates": options.get("templates") if template is None else [template],
        "text_pooling": options.get("text_pooling"),
    }


def _stored_labels(classify: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """The labels of a checkpoint, which a call without any is answered by, and a hash of their embeddings: they are
    none of the weights that `model_fingerprint` tells."""
    if options.get("candidate_labels") is not None:
        return {}
    embeds = classify.model.stored_label_embeds().detach().float().cpu().numpy()
    return {"stored_labels": [classify.label_names(), hashlib.sha256(embeds.tobytes()).hexdigest()]}


def settings_of(classify: Any, options: dict[str, Any]) -> str:
    """A short hash of what answers depend on: model, processor, labels and options, not how they are computed."""
    kept = {
        name: value
        for name, value in options.items()
        if name not in ("batch_size", "num_workers", "timeout", "on_error")
    }
    for name in ("candidate_labels", "background_labels"):
        if kept.get(name) is not None:
            labels = classify.processor.read_labels(kept[name])
            kept[name] = [list(labels.names), list(labels.descriptions or ())]
    for given in (classify._preprocess_params, classify._forward_params, classify._postprocess_params):
        kept = given | kept
    processor = json.loads(classify.processor.to_json_string())
    model = [model_fingerprint(classify.model), architecture_of(classify.model)]
    text = json.dumps([*model, processor, kept], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _answers_check(classify: Any, options: dict[str, Any]) -> tuple[Callable[[Any], bool], int]:
    """Whether a value of JSON is the answers that a call with these options can give; the most bytes of a record."""
    given = {name: options[name] for name in SCORING_OPTIONS if name in options}
    labels = {*classify.label_names(given.get("candidate_labels")), NONE_OF_THESE}
    scoring = classify.scoring(**given)
    are_shares = scoring.function in ("softmax", "sigmoid")
    # The labels, and "none of these".
    top_k = options.get("top_k")
    most = min(len(labels) if top_k is None else whole_number("top_k", top_k, least=1), len(labels)) + 1
    # A character is at most twelve bytes of JSON.
    most_bytes = MOST_RECORD_BYTES + sum(12 * len(label) + 200 for label in [*labels, *scoring.background])

    def is_answer(answer: Any) -> bool:
        score, background = answer["score"], answer.get("background", [*scoring.background])
        if answer.keys() - {"score", "label", "background"} or background != [*scoring.background]:
            return False
        if score is None:
            return answer["label"] == NONE_OF_THESE
        is_score = type(score) is float and (-1e-3 <= score <= 1.001 if are_shares else math.isfinite(score))
        return is_score and answer["label"] in labels

    def are_answers(answers: Any) -> bool:
        if not isinstance(answers, list) or not 0 < len(answers) <= most or not all(map(is_answer, answers)):
            return False
        return len({answer["label"] for answer in answers}) == len(answers)

    return are_answers, most_bytes


def _state_of(video: str) -> str:
    """What tells a video from another one under its name; nothing of an address: its store would have to be asked."""
    return "" if video == "-" or "://" in video or is_address(video) else path_state(video)


def _refuse_other_videos(path: Path, done: Mapping[str, str]) -> None:
    """Refuse videos of which a file of answers has others under the same name.

    Args:
        path: the file of answers.
        done: by video, its state when it was read.

    Raises:
        OtherAnswersError: a file is another one by now, or it is standard input, which may always be.
    """
    others = [video for video, state in done.items() if video == "-" or state != _state_of(video)]
    if others:
        raise OtherAnswersError(
            f"{printable(str(path))} has answers about {listing(others, limit=3)}, of a file that has changed since, "
            "or of another one. Write to another file, or delete the lines, and these videos are scored again."
        )


def _read_done(path: Path, settings: str, are_answers: Callable[[Any], bool], most_bytes: int) -> dict[str, str]:
    """The videos that a file of answers has, and their states; a line that a kill cut short is removed, and a whole
    one gets its end."""
    done: dict[str, str] = {}
    if not path.exists():
        return done
    whole, torn, lacks_end = 0, b"", False
    # Only what `json_text` never writes within a line ends one.
    for number, line in enumerate(bounded_lines(path, most_bytes), start=1):
        lacks_end = not line.endswith(b"\n")
        if lacks_end and len(line) <= most_bytes and not begins_with_json(line):
            torn = line
            break
        try:
            record = json.loads(line)
            video, found = record["video"], record["settings"]
            # Answers of other settings may be of other labels.
            if not isinstance(found, str) or (found == settings and not _is_record(record, are_answers)):
                raise ValueError("its fields are other ones")
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise OtherAnswersError(
                f"{printable(str(path))}, line {number}, is not a record of answers that can be gone on with. Delete "
                "the line, and its video is scored again; or write to another file."
            ) from error
        if found != settings:
            raise OtherAnswersError(
                f"{printable(str(path))} has answers of another model, other labels or options. Write to another "
                "file, or run the command that began it."
            )
        done[video] = record["state"]
        whole += len(line)
    if torn:
        if not may_be_torn(torn, RECORD_BEGIN):
            raise OtherAnswersError(
                f"{printable(str(path))} ends in a line that is not the beginning of a record of answers; it would "
                "be lost. Write to another file."
            )
        with path.open("r+b") as file:
            file.truncate(whole)
    elif lacks_end:  # as of a file that another program has written again
        with full_disk_named(path), path.open("ab") as file:
            file.write(b"\n")
    return done


def _is_record(record: dict[str, Any], are_answers: Callable[[Any], bool]) -> bool:
    """Whether an object of JSON is a record that `_records` has written.

    Raises:
        LookupError, TypeError: it is not.
    """
    if not isinstance(record["video"], str) or not isinstance(record["state"], str):
        return False
    if set(record) == {"video", "error", "state", "settings"}:
        return isinstance(record["error"], str)
    return len(record) == 4 and are_answers(record["answers"])
