"""Columns of videos, pictures and other files arrive as files wherever they come in, and no other decoder is asked."""

import io
import json
import os

import datasets
import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from transformers import pipeline
from transformers.pipelines.pt_utils import KeyDataset

from froster_hf.assets import SMALL_FROSTER
from froster_hf.data import as_video_table
from froster_hf.data.clips import EvaluationClips
from froster_hf.data.label_splits import hold_out
from froster_hf.data.video_table import label_pairs, refuse_other_labels, table_fingerprint
from froster_hf.evaluation.leak_check import find_leaks
from froster_hf.evaluation.own_list import named_table
from froster_hf.processing.text_files import AnnotationError
from froster_hf.processing.video_processing_froster import FrosterVideoProcessor
from froster_hf.training.clip_datasets import is_video_table
from froster_hf.video.columns import without_video_decoding
from froster_hf.video.decoding import VideoDecodeError
from tests.fixtures.videos import VIDEO_KINDS, render_video


@pytest.fixture(autouse=True)
def _no_torchcodec(monkeypatch):
    monkeypatch.setattr(datasets.config, "TORCHCODEC_AVAILABLE", False)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """train/ and test/ of two classes, as `videofolder` reads them."""
    root = tmp_path_factory.mktemp("videofolder")
    clip = render_video(root.parent / "clip.mp4", VIDEO_KINDS["h264_mp4"], num_frames=12).read_bytes()
    for split in ("train", "test"):
        for name in ("juggling", "bowling"):
            (root / split / name).mkdir(parents=True)
            (root / split / name / "a.mp4").write_bytes(clip)
    return root


@pytest.fixture(scope="module")
def tables(root, tmp_path_factory):
    return datasets.load_dataset("videofolder", data_dir=str(root), cache_dir=str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def streams(root, tmp_path_factory):
    cache = str(tmp_path_factory.mktemp("cache"))
    return datasets.load_dataset("videofolder", data_dir=str(root), cache_dir=cache, streaming=True)


FORMS = {
    "table": lambda tables, streams: (row["video"] for row in without_video_decoding(tables["train"])),
    "dict of tables": lambda tables, streams: (row["video"] for row in without_video_decoding(tables)["test"]),
    "column": lambda tables, streams: without_video_decoding(tables["train"]["video"]),
    "key data set": lambda tables, streams: iter(without_video_decoding(KeyDataset(tables["train"], "video"))),
    "stream": lambda tables, streams: (row["video"] for row in without_video_decoding(streams["train"])),
    "dict of streams": lambda tables, streams: (row["video"] for row in without_video_decoding(streams)["test"]),
    "column of a stream": lambda tables, streams: without_video_decoding(streams["train"]["video"]),
}


@pytest.mark.parametrize("form", FORMS)
def test_rows_hold_the_file_in_every_form(tables, streams, form):
    videos = list(FORMS[form](tables, streams))
    assert len(videos) == 2
    assert all(os.path.isfile(video["path"]) or video["bytes"] for video in videos)


def test_the_form_is_kept_and_the_original_still_decodes(tables):
    undecoded = without_video_decoding(tables)
    assert isinstance(undecoded, datasets.DatasetDict)
    assert undecoded["train"].features["label"] == tables["train"].features["label"]
    assert undecoded["train"].features["video"] == datasets.Video(decode=False)
    assert tables["train"].features["video"] == datasets.Video(), "the caller's table is left alone"


def test_nested_columns_are_reached(root):
    path = str(root / "train" / "juggling" / "a.mp4")
    features = datasets.Features({"views": datasets.List(datasets.Video()), "clip": {"video": datasets.Video()}})
    table = datasets.Dataset.from_dict({"views": [[path, path]], "clip": [{"video": path}]}, features=features)
    row = without_video_decoding(table)[0]
    assert [view["path"] for view in row["views"]] == [path, path]
    assert row["clip"]["video"]["path"] == path
    nested = without_video_decoding(table["clip"]["video"])
    assert nested[0]["path"] == path


@pytest.mark.parametrize("data", [None, "clip.mp4", ["a", "b"], {"video": 1}, torch.zeros(2)])
def test_anything_else_is_returned_as_it_is(data):
    assert without_video_decoding(data) is data


def test_what_does_not_decode_is_not_touched(tables):
    undecoded = without_video_decoding(tables["train"])
    assert without_video_decoding(undecoded) is undecoded
    own = tables["train"].with_transform(lambda batch: {"n": [1] * len(batch["label"])})
    assert without_video_decoding(own) is own, "the user's transform may want decoders"


def test_a_transform_that_only_the_files_of_a_table_speak_of_is_none_of_the_users(tables, tmp_path):
    table = saved_as_custom(tables["train"], tmp_path)
    assert is_video_table(table)
    assert all(row["video"]["bytes"] for row in without_video_decoding(table))


def lying_table(path) -> datasets.Dataset:
    """Three videos, of which the second's path ends a gigabyte behind the file, as does a name beside each."""
    offsets = np.array([0, 5, 2**30, 15], np.int32)
    paths = pa.StringArray.from_buffers(3, pa.py_buffer(offsets), pa.py_buffer(b"a.mp4b.mp4c.mp4"))
    videos = pa.StructArray.from_arrays([pa.array([b"a", b"b", b"c"]), paths], ["bytes", "path"])
    table = pa.table({"video": videos, "label": pa.array([0, 1, 0]), "name": paths, "whole": pa.array([*"abc"])})
    label = datasets.ClassLabel(names=["x", "y"])
    texts = {"name": datasets.Value("string"), "whole": datasets.Value("string")}
    return read_arrow(path, table, datasets.Features({"video": datasets.Video(), "label": label, **texts}))


def read_arrow(path, table, features) -> datasets.Dataset:
    """As `datasets` reads a file, without looking at the values."""
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table)
    return datasets.Dataset.from_file(str(path), info=datasets.DatasetInfo(features=features))


def test_a_table_whose_values_lie_outside_of_it_is_one_error(tmp_path):
    table = lying_table(tmp_path / "lying.arrow")
    for data in (table, table["video"], table["name"], KeyDataset(table, "video"), table.select([0, 2])):
        with pytest.raises(ValueError, match=r"is damaged .* out of bounds"):
            without_video_decoding(data)
    with pytest.raises(ValueError, match=r"\['video', 'label'\] is damaged"):
        as_video_table(table)
    assert list(without_video_decoding(table["whole"])) == [*"abc"], "what is not read does not count"


@pytest.mark.parametrize(
    "read",
    [
        table_fingerprint,
        lambda table: find_leaks(["a.mp4"], table),
        lambda table: hold_out(table, 0.5),
        label_pairs,
        refuse_other_labels,
    ],
    ids=["fingerprint", "leaks", "share held out", "pairs", "labels"],
)
def test_no_function_reads_a_table_beyond_its_end(tmp_path, read):
    """As `evaluate_videos` and `choose_templates` read the tables that they are given."""
    table = lying_table(tmp_path / "lying.arrow")
    if read in (label_pairs, refuse_other_labels):
        offsets = pa.py_buffer(np.array([0, 1, 2**28, 3], np.int32))
        lists = pa.Array.from_buffers(pa.list_(pa.int64()), 3, [None, offsets], children=[pa.array([0, 1, 0])])
        features = datasets.Features({"labels": datasets.List(table.features["label"])})
        table = read_arrow(tmp_path / "lists.arrow", pa.table({"labels": lists}), features)
    with pytest.raises(ValueError, match="is damaged"):
        read(table)


def test_a_row_without_a_video_is_named_whatever_lies_below_it():
    fields = [pa.array([b"a", b"b"]), pa.array(["a.mp4", "b.mp4"])]
    videos = pa.StructArray.from_arrays(fields, ["bytes", "path"], mask=pa.array([False, True]))
    features = datasets.Features({"video": datasets.Video(), "label": datasets.Value("string")})
    info = datasets.DatasetInfo(features=features)
    table = datasets.Dataset(pa.table({"video": videos, "label": pa.array(["x", "y"])}), info=info)
    with pytest.raises(AnnotationError, match="row 1 of the data set has neither a path nor bytes"):
        as_video_table(table)
    assert len(as_video_table(table.select([0]))) == 1


def test_a_table_of_videofolder_becomes_a_video_table(root, tables):
    table = as_video_table(tables["train"].with_format("torch"), roots=[root])
    assert table.features["video"] == datasets.Video(decode=False)
    assert table[0]["video"]["path"] == str(root / "train" / "bowling" / "a.mp4")


def frame_lists() -> tuple[datasets.Dataset, list[bytes]]:
    """A table of three lists of pictures, and the pictures; the second list has a damaged one."""
    pictures = []
    for gray in range(12):
        picture = io.BytesIO()
        Image.fromarray(np.full((24, 32, 3), 20 * gray, np.uint8)).save(picture, format="PNG")
        pictures.append(picture.getvalue())
    pictures[6] = b"no picture"
    rows = [[{"bytes": data, "path": None} for data in pictures[start : start + 4]] for start in (0, 4, 8)]
    features = datasets.Features({"frames": datasets.List(datasets.Image()), "poster": datasets.Image()})
    table = datasets.Dataset.from_dict({"frames": rows, "poster": [row[0] for row in rows]}, features=features)
    return table, pictures


def test_pictures_hold_the_files_which_are_not_copied(tmp_path):
    table, pictures = frame_lists()
    table.to_parquet(tmp_path / "frames.parquet")
    stored = datasets.load_dataset(
        "parquet", data_files=str(tmp_path / "frames.parquet"), split="train", cache_dir=str(tmp_path / "cache")
    )
    written = set((tmp_path / "cache").rglob("*"))
    for undecoded in (without_video_decoding(stored), without_video_decoding(stored.to_iterable_dataset())):
        rows = list(undecoded)
        assert [picture["bytes"] for row in rows for picture in row["frames"]] == pictures
        assert [row["poster"]["bytes"] for row in rows] == pictures[::4]
    assert set((tmp_path / "cache").rglob("*")) == written, "the pictures are not copied"
    assert stored.features == table.features


@pytest.mark.parametrize("format_name", ["numpy", "torch"])
def test_lists_of_pictures_of_a_table_with_a_format_are_read(format_name):
    table, _ = frame_lists()
    table = table.select([0, 2])
    processor = FrosterVideoProcessor()
    expected, found = (
        [
            processor([row["frames"]], return_tensors="pt")["pixel_values_videos"]
            for row in without_video_decoding(rows)
        ]
        for rows in (table, table.with_format(format_name))
    )
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


def saved_as_custom(table, folder) -> datasets.Dataset:
    """The table as somebody else could have saved it: its files say that it has a transform, and hold none."""
    table.save_to_disk(folder)
    state = json.loads((folder / "state.json").read_text())
    state |= {"_format_type": "custom", "_format_kwargs": {"transform": None}}
    (folder / "state.json").write_text(json.dumps(state))
    return datasets.load_from_disk(folder)


# What `datasets` decodes or not.
DECODING = {name: kind for name, kind in vars(datasets.features).items() if hasattr(kind, "decode")}


@pytest.mark.parametrize("name", sorted(set(DECODING) - {"Json"}))
def test_files_of_every_kind_that_datasets_decodes_arrive_as_files(name):
    """Wherever they are nested."""
    kind, file = DECODING[name], {"bytes": b"not one", "path": None}
    features = datasets.Features(
        {
            "alone": kind(),
            "listed": datasets.List(kind()),
            "fixed": datasets.List(kind(), length=2),
            "large": datasets.LargeList(kind()),
            "deep": datasets.List({"files": datasets.List(datasets.List(kind()))}),
            "sequence": datasets.Sequence({"file": kind()}),
            "named": {"file": kind(), "text": datasets.Value("string")},
        }
    )
    row = {
        "alone": file,
        "listed": [file],
        "fixed": [file, file],
        "large": [file],
        "deep": [{"files": [[file], []]}],
        "sequence": {"file": [file]},
        "named": {"file": file, "text": "a"},
    }
    rows = pa.Table.from_pylist([row], schema=features.arrow_schema)
    table = datasets.Dataset(rows, info=datasets.DatasetInfo(features=features))
    assert list(without_video_decoding(table)) == [row]
    assert list(without_video_decoding(table.to_iterable_dataset())) == [row]
    for column in (table["alone"], KeyDataset(table, "alone"), table.to_iterable_dataset()["alone"]):
        assert list(without_video_decoding(column)) == [file]
    assert list(without_video_decoding(table["named"]["file"])) == [file]
    assert table.features == features


@pytest.mark.skipif("Json" not in DECODING, reason="a later version of datasets has it")
def test_json_is_text_and_stays_decoded():
    row = {"about": {"frames": 3}}
    table = datasets.Dataset.from_list([row], features=datasets.Features({"about": DECODING["Json"]()}))
    assert list(without_video_decoding(table)) == [row]


@pytest.mark.parametrize("kind", ["column", "stream", "key data set"])
def test_a_column_of_single_pictures_is_refused_row_by_row_and_nothing_is_decoded_here(kind, monkeypatch):
    table, _ = frame_lists()
    videos = {
        "column": table["poster"],
        "stream": table.to_iterable_dataset()["poster"],
        "key data set": KeyDataset(table, "poster"),
    }[kind]
    classify = pipeline("zero-shot-video-classification", model=str(SMALL_FROSTER))
    refuse_decoding_here(monkeypatch)
    answers = list(classify(videos, candidate_labels=["growing", "shrinking"], on_error="return"))
    assert len(answers) == 3
    assert all(isinstance(answer, VideoDecodeError) for answer in answers)
    assert all("it is a PNG picture or animation; give pictures as a list" in str(answer) for answer in answers)


@pytest.mark.parametrize("feature", [datasets.Image(), datasets.Pdf()], ids=["picture", "document"])
def test_no_function_decodes_what_a_table_calls_videos(feature, tmp_path, monkeypatch):
    """As `evaluate_videos` reads the tables that it is given, whatever the type of the column."""
    label = datasets.ClassLabel(names=["x", "y"])
    rows = {"video": [{"bytes": b"neither", "path": f"{name}.mp4"} for name in "abcd"], "label": [0, 1, 0, 1]}
    table = datasets.Dataset.from_dict(rows, features=datasets.Features({"video": feature, "label": label}))
    refuse_decoding_here(monkeypatch)
    assert len(table_fingerprint(table)) == 64
    assert find_leaks(["a.mp4"], table) == [("a.mp4", "a.mp4")]
    assert [len(part) for part in hold_out(table, 0.5)] == [2, 2]
    assert named_table(table)[0][0]["video"]["bytes"] == b"neither"
    clips = EvaluationClips(table, video_processor=FrosterVideoProcessor(num_frames=2))
    assert clips[0]["decode_failures"]


def refuse_decoding_here(monkeypatch):
    def decoded_here(*arguments, **options):
        raise AssertionError("a file of the table was decoded in this process")

    monkeypatch.setattr(Image, "open", decoded_here)


KINDS = ["column", "undecoded", "stream", "key data set", "custom column", "custom key data set"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_picture_of_a_list_costs_its_row(kind, monkeypatch, tmp_path):
    table, pictures = frame_lists()
    undecoded = table.cast_column("frames", datasets.List(datasets.Image(decode=False)))
    with_no_function = saved_as_custom(table, tmp_path)
    videos = {
        "column": table["frames"],
        "undecoded": undecoded["frames"],
        "stream": table.to_iterable_dataset()["frames"],
        "key data set": KeyDataset(table, "frames"),
        "custom column": with_no_function["frames"],
        "custom key data set": KeyDataset(with_no_function, "frames"),
    }[kind]
    classify = pipeline("zero-shot-video-classification", model=str(SMALL_FROSTER))
    options = {"candidate_labels": ["growing", "shrinking"], "on_error": "return"}
    opened = [[Image.open(io.BytesIO(data)) for data in pictures[start : start + 4]] for start in (0, 8)]
    expected = classify(opened, **options)

    refuse_decoding_here(monkeypatch)
    first, damaged, last = classify(videos, **options)
    assert [first, last] == expected
    assert isinstance(damaged, VideoDecodeError)
    assert "'frame 2': it is not an image" in str(damaged)


def test_the_pipeline_reads_decoding_columns_and_streams(tables, streams):
    classify = pipeline("zero-shot-video-classification", model=str(SMALL_FROSTER))
    labels = ["growing", "shrinking"]
    expected = classify(str(tables["train"].cast_column("video", datasets.Video(decode=False))[0]["video"]["path"]),
                        candidate_labels=labels)  # fmt: skip
    for videos in (tables["train"]["video"], KeyDataset(tables["train"], "video"), streams["train"]["video"]):
        answers = list(classify(videos, candidate_labels=labels))
        assert answers == [expected, expected]
