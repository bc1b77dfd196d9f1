"""An index of videos, and searches in it, on the real LanceDB: what is found, read again, and refused."""

import contextlib
import dataclasses
import errno
import html
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch

from froster_hf import VideoDecodeError, load_pipeline
from froster_hf.assets import SMALL_CLIP, SMALL_FROSTER
from froster_hf.cli import main
from froster_hf.integrations import search
from froster_hf.integrations.lance_places import MOST_BYTES, _check_data_file
from froster_hf.integrations.search import (
    FoundSegment,
    SearchIndexError,
    embed_probe,
    index_videos,
    open_index,
    search_videos,
)
from froster_hf.integrations.search_page import write_search_page
from froster_hf.shapes import MovingShape
from froster_hf.shapes.dataset import write_moving_shapes
from froster_hf.shapes.video_files import write_mp4
from froster_hf.video.decoding import decode_frames
from froster_hf.whole_files import ResultExistsError, one_at_a_time
from tests.fixtures.pages import runs
from tests.fixtures.subprocesses import environment
from tests.video.test_files import close_folder

pytest.importorskip("lancedb", reason="needs the extra search (make test-extras)")

STAR, SQUARE, RING = classes = [
    MovingShape("red", "star", "sliding left"),
    MovingShape("blue", "square", "pulsing"),
    MovingShape("green", "ring", "growing"),
]


@pytest.fixture(scope="module")
def classify():
    return load_pipeline("small", device="cpu")


@pytest.fixture(scope="module")
def rendered(tmp_path_factory) -> list[Path]:
    """A clip of four seconds for each class."""
    rows = write_moving_shapes(tmp_path_factory.mktemp("shapes"), classes, clips_per_class=1, seed=6, num_frames=32)
    return [Path(row["video"]) for row in rows]


@pytest.fixture(scope="module")
def long_video(rendered, tmp_path_factory) -> Path:
    """The three clips, one after the other."""
    frames = torch.cat([decode_frames(path, list(range(32)))[0] for path in rendered])
    return write_mp4(frames, tmp_path_factory.mktemp("long") / "long.mp4")


@pytest.fixture
def videos(rendered, tmp_path) -> Path:
    folder = tmp_path / "videos"
    (folder / "below").mkdir(parents=True)
    for name, path in zip(("star.mp4", "below/it's a square.mp4", "ring.mp4"), rendered):
        shutil.copy(path, folder / name)
    return folder


def names(found: list[FoundSegment]) -> list[str]:
    return [Path(segment.video).name for segment in found]


def test_words_find_the_segments_of_a_long_video_with_their_times(classify, long_video, tmp_path):
    report = index_videos(classify, [long_video], output=tmp_path / "index")
    assert (report.num_videos, report.num_segments, report.new) == (1, 5, [str(long_video)])
    for number, label in enumerate(classes):
        best, *others = search_videos(tmp_path / "index", str(label), classify=classify, top_k=9)
        assert (best.start_seconds, best.end_seconds) == (4.0 * number, 4.0 * number + 4)
        # What overlaps it is not given again.
        assert all(
            other.end_seconds <= best.start_seconds or other.start_seconds >= best.end_seconds for other in others
        )
        assert best.score > max(other.score for other in others)
        assert best.picture.startswith(b"\xff\xd8")


def test_a_clip_finds_itself_first_and_words_with_it_count_as_much(classify, videos, rendered, tmp_path):
    index_videos(classify, [videos], output=tmp_path / "index")
    found = search_videos(tmp_path / "index", like=str(rendered[1]), classify=classify)
    assert names(found)[0] == "it's a square.mp4"
    assert found[0].score == pytest.approx(1, abs=1e-5)
    both = search_videos(tmp_path / "index", str(STAR), like=str(rendered[1]), classify=classify)
    assert set(names(both)[:2]) == {"star.mp4", "it's a square.mp4"}


def test_embeddings_are_those_of_the_timelines_windows_and_have_unit_length(classify, long_video, tmp_path):
    index_videos(classify, [long_video], output=tmp_path / "index", batch_size=2)
    rows = open_index(tmp_path / "index").table.search().to_arrow().sort_by("start_seconds")
    embeds = torch.tensor(rows["embedding"].to_pylist())
    torch.testing.assert_close(embeds.norm(dim=1), torch.ones(5))
    labels = [str(label) for label in classes]
    timeline = classify.timeline(str(long_video), labels, smoothing_seconds=0, function_to_apply="none")
    assert timeline.windows == list(zip(rows["start_seconds"].to_pylist(), rows["end_seconds"].to_pylist()))
    backbone = classify.model.froster
    with torch.no_grad():
        logits = backbone.similarity(embeds, classify.label_embeds(labels))
    scores = torch.stack([timeline.scores.of(place) for place in range(3)], dim=1)
    # The timeline's embeddings, means over frames, are shorter than 1, the same for all labels.
    normalize = torch.nn.functional.normalize
    torch.testing.assert_close(normalize(logits), normalize(scores), rtol=0, atol=1e-5)


def test_a_second_run_reads_new_and_changed_files_only_and_forgets_what_is_gone(
    classify, videos, rendered, tmp_path, monkeypatch
):
    index = tmp_path / "index"
    index_videos(classify, [videos], output=index)
    before = open_index(index).states()
    read = []
    begin = search._begin
    monkeypatch.setattr(
        search, "_begin", lambda classify, video, *rest: read.append(video) or begin(classify, video, *rest)
    )
    assert len(index_videos(classify, [videos], output=index).unchanged) == 3
    assert read == []

    shutil.copy(rendered[0], videos / "new.mp4")
    shutil.copy(rendered[2], videos / "star.mp4")
    (videos / "ring.mp4").unlink()
    report = index_videos(classify, [videos], output=index)
    assert sorted(read) == [str(videos / "new.mp4"), str(videos / "star.mp4")]
    assert report.new == [str(videos / "new.mp4")]
    assert report.changed == [str(videos / "star.mp4")]
    assert report.gone == [str(videos / "ring.mp4")]
    assert len(report.unchanged) == 1
    after = open_index(index).states()
    assert set(after) == {str(videos / name) for name in ("new.mp4", "star.mp4", "below/it's a square.mp4")}
    assert after[str(videos / "star.mp4")] != before[str(videos / "star.mp4")]
    assert names(search_videos(index, str(STAR), classify=classify, top_k=1)) == ["new.mp4"]
    assert names(search_videos(index, str(RING), classify=classify, top_k=1)) == ["star.mp4"]


def test_a_probe_of_frames_that_no_memory_holds_is_refused(classify):
    """A stranger's index says how many frames a segment has, and an honest model would compute them."""
    with pytest.raises(ValueError, match="`num_frames` is 100000; a window of this checkpoint has at most"):
        embed_probe(classify, 100_000)


def test_one_path_is_one_folder_and_not_its_letters(classify, videos, tmp_path):
    report = index_videos(classify, str(videos), output=tmp_path / "index")
    assert report.num_videos == 3


def test_only_what_was_searched_can_be_gone(classify, videos, rendered, tmp_path):
    index, other = tmp_path / "index", tmp_path / "other"
    index_videos(classify, [videos], output=index)
    shutil.move(videos, other)
    report = index_videos(classify, [other / "star.mp4"], output=index)
    assert (report.gone, report.num_videos) == ([], 4)
    (other / "star.mp4").unlink()
    report = index_videos(classify, [other / "star.mp4"], output=index)
    assert (report.gone, report.errors) == ([str(other / "star.mp4")], {})
    # A disk that is not there looks like an empty folder.
    videos.mkdir()
    with pytest.raises(ValueError, match="Is the disk there"):
        index_videos(classify, [videos], output=index)
    assert open_index(index).table.count_rows() == 3


def test_a_damaged_video_costs_itself_alone_and_is_tried_again(classify, videos, rendered, tmp_path):
    index, damaged = tmp_path / "index", videos / "below" / "damaged.mp4"
    damaged.write_bytes(b"not a video")
    records = []
    report = index_videos(classify, [videos, tmp_path / "nowhere.mp4"], output=index, on_video=records.append)
    assert report.num_videos == len(report.new) == 3
    assert list(report.errors) == [str(tmp_path / "nowhere.mp4"), str(damaged)]
    assert "damaged.mp4" in report.errors[str(damaged)]
    assert {record["video"] for record in records if "error" in record} == set(report.errors)
    shutil.copy(rendered[0], damaged)
    assert index_videos(classify, [videos], output=index).new == [str(damaged)]
    # A file that was readable before: what the index has is of what is no longer there.
    damaged.write_bytes(b"not a video again")
    assert list(index_videos(classify, [videos], output=index).errors) == [str(damaged)]
    assert str(damaged) not in open_index(index).states()


@pytest.mark.parametrize("as_folder", [True, False])
def test_a_file_that_cannot_be_looked_at_keeps_its_segments(classify, videos, tmp_path, monkeypatch, as_folder):
    index, hidden = tmp_path / "index", str(videos / "star.mp4")
    index_videos(classify, [videos], output=index)
    before = open_index(index).states()
    state = search._state

    def failing(video, named):
        if video == hidden:
            raise OSError(errno.EIO, "Input/output error")
        return state(video, named)

    monkeypatch.setattr(search, "_state", failing)
    report = index_videos(classify, [videos if as_folder else hidden], output=index)
    assert (report.errors, report.gone) == ({hidden: "Input/output error"}, [])
    assert (open_index(index).states(), report.num_segments) == (before, 3)


def test_a_folder_that_may_not_be_read_costs_itself_and_its_segments_stay(
    classify, videos, rendered, tmp_path, monkeypatch
):
    index, other = tmp_path / "index", tmp_path / "other.mp4"
    shutil.copy(rendered[0], other)
    index_videos(classify, [videos], output=index)
    close_folder(monkeypatch, videos.name)
    report = index_videos(classify, [videos, other], output=index)
    assert report.errors == {str(videos): "1 folders that cannot be read below it"}
    assert (report.new, report.gone, report.num_videos) == ([str(other)], [], 4)


def test_what_the_machine_lacks_ends_the_run_and_what_was_read_stays(classify, videos, tmp_path, monkeypatch):
    from froster_hf import DecodingUnavailableError

    begin = search._begin

    def lacking(classify, video, *rest):
        if video.endswith("star.mp4"):
            raise DecodingUnavailableError("no process can be started")
        return begin(classify, video, *rest)

    monkeypatch.setattr(search, "_begin", lacking)
    with pytest.raises(DecodingUnavailableError):
        index_videos(classify, [videos], output=tmp_path / "index")
    assert sorted(map(os.path.basename, open_index(tmp_path / "index").states())) == ["it's a square.mp4", "ring.mp4"]


KILLED = """
import os, signal, sys
from froster_hf import load_pipeline
from froster_hf.integrations import search

search.ROWS_PER_COMMIT = 1
seen = []

def kill(record):
    seen.append(record)
    if len(seen) == 2:
        os.kill(os.getpid(), signal.SIGKILL)

search.index_videos(load_pipeline("small", device="cpu"), [sys.argv[1]], output=sys.argv[2], on_video=kill)
"""


def test_after_a_kill_the_next_run_goes_on(classify, videos, tmp_path):
    index = tmp_path / "index"
    run = subprocess.run([sys.executable, "-c", KILLED, str(videos), str(index)], env=environment())
    assert run.returncode == -signal.SIGKILL
    there = open_index(index).states()
    assert len(there) == 2
    report = index_videos(classify, [videos], output=index)
    assert sorted(report.unchanged) == sorted(there)
    assert (len(report.new), report.num_videos, report.num_segments) == (1, 3, 3)


def test_an_index_is_searched_and_extended_by_its_own_model_alone(classify, videos, tmp_path, monkeypatch):
    index = tmp_path / "index"
    index_videos(classify, [videos], output=index)
    other = load_pipeline(SMALL_CLIP, device="cpu")
    for use in (
        lambda model: search_videos(index, "a star", classify=model),
        lambda model: index_videos(model, [videos], output=index),
    ):
        with pytest.raises(SearchIndexError, match="made with the model small"):
            use(other)
    # The same weights, another way to see.
    seeing = load_pipeline(SMALL_FROSTER, device="cpu")
    monkeypatch.setattr(seeing.processor.video_processor, "image_mean", [0.0, 0.0, 0.0])
    with pytest.raises(SearchIndexError, match="set up otherwise"):
        search_videos(index, "a star", classify=seeing)
    trained = load_pipeline(SMALL_FROSTER, device="cpu")
    with torch.no_grad():
        next(trained.model.froster.vision_model.parameters())[0] += 1e-6
    with pytest.raises(SearchIndexError):
        search_videos(index, "a star", classify=trained)
    # Not given, it is loaded by its name.
    assert names(search_videos(index, str(STAR), top_k=1)) == ["star.mp4"]


def test_an_open_index_checks_a_model_once_and_again_when_it_has_changed(index_of_one, monkeypatch):
    index, own = open_index(index_of_one), load_pipeline("small", device="cpu")
    hashed, fingerprint = [], search._fingerprint
    monkeypatch.setattr(search, "_fingerprint", lambda used: hashed.append(used.model) or fingerprint(used))
    for _ in range(3):
        search_videos(index, "a star", classify=own)
    assert hashed == [own.model]
    with monkeypatch.context() as changed:
        changed.setattr(own.processor.video_processor, "image_mean", [0.0, 0.0, 0.0])
        with pytest.raises(SearchIndexError):
            search_videos(index, "a star", classify=own)
    search_videos(index, "a star", classify=own)
    with torch.no_grad():
        next(own.model.froster.vision_model.parameters())[0] += 1e-6
    with pytest.raises(SearchIndexError):
        search_videos(index, "a star", classify=own)
    with pytest.raises(SearchIndexError):
        search_videos(index, "a star", classify=load_pipeline(SMALL_CLIP, device="cpu"))


def test_an_index_of_an_adapter_is_searched_by_its_own_name(videos, tmp_path):
    peft = pytest.importorskip("peft", reason="needs the extra lora")
    index, adapter = tmp_path / "index", tmp_path / "adapter"
    model = load_pipeline("small", device="cpu").model
    model.add_adapter(peft.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    model.save_pretrained(adapter)
    index_videos(load_pipeline(adapter, device="cpu"), [videos], output=index)
    assert open_index(index).settings.model == str(adapter)
    assert len(search_videos(index, str(STAR))) == 3


def test_wrong_options_are_errors(classify, videos, tmp_path):
    index = tmp_path / "index"
    with pytest.raises(SearchIndexError, match="There is no index"):
        search_videos(index, "a star", classify=classify)
    with pytest.raises(ValueError, match="`window_seconds` is -1"):
        index_videos(classify, [videos], output=index, window_seconds=-1)
    assert not index.exists()
    index_videos(classify, [videos], output=index, window_seconds=2, stride_seconds=2)
    with pytest.raises(SearchIndexError, match=r"`stride_seconds` is 1, .* made with 2"):
        index_videos(classify, [videos], output=index, stride_seconds=1)
    with pytest.raises(ValueError, match="nothing to look for"):
        search_videos(index, "  ", classify=classify)
    with pytest.raises(ValueError, match="`top_k` is 0"):
        search_videos(index, "a star", classify=classify, top_k=0)
    with pytest.raises(TypeError, match="`top_k` is '3'; it must be a whole number"):
        search_videos(index, "a star", classify=classify, top_k="3")
    everything = search_videos(index, "a star", classify=classify, top_k=10**20)
    assert everything == search_videos(index, "a star", classify=classify, top_k=len(open_index(index)))
    with pytest.raises(VideoDecodeError):
        search_videos(index, like=str(tmp_path / "nowhere.mp4"), classify=classify)
    with pytest.raises(SearchIndexError, match="something else"):
        index_videos(classify, [videos], output=videos)
    for manifest in (index / "segments.lance" / "_versions").iterdir():
        manifest.write_bytes(b"damaged")
    with pytest.raises(SearchIndexError, match="damaged"):
        open_index(index)


def test_a_name_that_is_no_text_costs_its_own_video(classify, videos, rendered, tmp_path):
    shutil.copy(rendered[0], os.fsencode(videos) + b"/\xff.mp4")
    report = index_videos(classify, [videos], output=tmp_path / "index")
    [(name, reason)] = report.errors.items()
    assert name.endswith("\udcff.mp4")
    assert "UTF-8" in reason
    assert report.num_videos == 3


def test_videos_of_a_store_are_indexed_by_their_addresses(classify, rendered, tmp_path):
    import fsspec

    store = fsspec.filesystem("memory")
    for number, path in enumerate(rendered):
        store.pipe(f"/shapes/{number}.mp4", path.read_bytes())
    address, index = "memory://shapes", tmp_path / "index"
    allowed = classify.processor.video_processor.allow_urls
    classify.processor.video_processor.allow_urls = [address]
    try:
        assert len(index_videos(classify, [address], output=index).new) == 3
        store.rm("/shapes/0.mp4")
        report = index_videos(classify, [address], output=index)
    finally:
        classify.processor.video_processor.allow_urls = allowed
        store.rm("/shapes", recursive=True)
    assert (report.gone, len(report.unchanged)) == (["memory://shapes/0.mp4"], 2)
    assert names(search_videos(index, str(RING), classify=classify, top_k=1)) == ["2.mp4"]


def test_addresses_that_only_a_list_names_are_not_asked_for(rendered, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("fsspec.core.url_to_fs", lambda address, **_: pytest.fail(f"{address} was opened"))
    addresses = ["file:///etc/*.conf", "zip://a.mp4::http://127.0.0.1:9/x", "memory://secrets/a.mp4", "memory://b/"]
    (tmp_path / "list.txt").write_text("\n".join([str(rendered[0]), *addresses]))
    command = ["index", str(tmp_path / "list.txt"), "--output", str(tmp_path / "index"), "--model", "small"]
    for _ in range(2):
        assert main(command) == 1
        told = capsys.readouterr().err
        assert [address for address in addresses if f"froster: {address}: it is a URL" in told] == addresses
    assert list(open_index(tmp_path / "index").states()) == [str(rendered[0])]


def test_no_error_of_an_index_shows_an_account_or_a_query(tmp_path, capsys):
    addresses = [f"{scheme}://me:secret@127.0.0.1/no.mp4?token=secret" for scheme in ("memory", "https")]
    assert main(["index", *addresses, "--output", str(tmp_path / "index"), "--model", "small", "--device", "cpu"]) == 1
    said = capsys.readouterr().err
    assert said.count("***") >= 2
    assert "secret" not in said


def test_a_name_in_a_store_that_leads_elsewhere_is_not_asked_for(classify, rendered, tmp_path, monkeypatch):
    import fsspec

    store, opened = fsspec.filesystem("memory"), []
    store.pipe("/shapes/a.mp4", rendered[0].read_bytes())
    store.pipe("/shapes/b::http:/127.0.0.1:9/x.mp4", b"x")
    url_to_fs = fsspec.core.url_to_fs
    monkeypatch.setattr("fsspec.core.url_to_fs", lambda address, **_: opened.append(address) or url_to_fs(address))
    monkeypatch.setattr(classify.processor.video_processor, "allow_urls", ["memory://shapes"])
    try:
        report = index_videos(classify, ["memory://shapes"], output=tmp_path / "index")
    finally:
        store.rm("/shapes", recursive=True)
    assert report.new == ["memory://shapes/a.mp4"]
    assert len(report.errors) == 1
    assert not [address for address in opened if "::" in address]


@pytest.fixture
def writer(classify, tmp_path) -> search._Writer:
    index = search._create_index(
        classify, tmp_path / "index", dict.fromkeys(("window_seconds", "stride_seconds", "num_frames"))
    )
    return search._Writer(index, search.IndexReport(), lambda record: None)


def test_a_search_is_the_same_as_comparing_all(writer):
    """Ten thousand segments, of which none overlap."""
    generator = torch.Generator().manual_seed(3)
    embeds = torch.nn.functional.normalize(torch.randn(10_000, 128, generator=generator), dim=-1)
    for number in range(0, 10_000, 100):
        rows = [
            ((8.0 * place, 8.0 * place + 4), b"", embed) for place, embed in enumerate(embeds[number : number + 100])
        ]
        writer.add(f"{number}.mp4", "", iter(rows), was_known=False)
    writer.commit()
    index = open_index(writer.index.path)
    assert len(index.states()) == 100
    found = index.nearest(embeds[1234], top_k=50)
    scores, places = (embeds @ embeds[1234]).topk(50)
    assert [(int(Path(one.video).stem) + one.start_seconds / 8) for one in found] == places.tolist()
    np.testing.assert_allclose([one.score for one in found], scores, rtol=0, atol=1e-6)


def test_of_many_segments_of_a_video_those_that_lie_apart_are_told_at_once():
    """Each compared with all others, they took most of a minute."""
    rows = [{"video": "a.mp4", "start_seconds": float(k), "end_seconds": k + 1.0} for k in range(50_000)]
    across = {"video": "a.mp4", "start_seconds": 6.5, "end_seconds": 7.5}
    elsewhere = across | {"video": "b.mp4"}
    start = time.process_time()
    assert list(search._apart([*rows[::-2], *rows[::2], across, elsewhere])) == [*rows[::-2], *rows[::2], elsewhere]
    assert time.process_time() - start < 5


def test_an_index_that_the_table_gets_while_it_is_open_hides_no_segment(writer, monkeypatch):
    """LanceDB's own are approximate, and one that a stranger has made may say anything."""
    from lancedb.index import IvfPq

    embeds = torch.nn.functional.normalize(torch.randn(300, 128, generator=torch.Generator().manual_seed(3)), dim=-1)
    writer.add("a.mp4", "", (((8.0 * n, 8.0 * n + 4), b"", row) for n, row in enumerate(embeds)), was_known=False)
    writer.commit()
    index = open_index(writer.index.path)
    index.table.create_index("embedding", config=IvfPq(distance_type="dot", num_partitions=1, num_sub_vectors=2))
    with pytest.raises(SearchIndexError, match="or indexes of its columns"):
        index.nearest(embeds[123])
    # Of one that it gets behind the look at its files, too.
    monkeypatch.setattr(index, "_open_again", lambda: None)
    scores, places = (embeds @ embeds[123]).topk(10)
    found = index.nearest(embeds[123])
    assert [one.start_seconds / 8 for one in found] == places.tolist()
    assert [one.score for one in found] == pytest.approx(scores.tolist(), abs=1e-6)


def segments(number: int, picture_bytes: int = 1):
    """Segments of a video whose embeddings are alike, each with a picture of its own."""
    for place in range(number):
        yield (2.0 * place, 2.0 * place + 4), bytes([place % 256]) * picture_bytes, torch.full((128,), 128**-0.5)


def test_segments_of_a_long_video_wait_on_the_disk(writer, monkeypatch):
    monkeypatch.setattr(search, "MOST_WAITING_BYTES", 2**20)
    monkeypatch.setattr(search, "ROWS_PER_WRITE", 16)
    writer.commit()
    tracemalloc.start()
    try:
        writer.add("short.mp4", "", segments(1), was_known=False)
        writer.add("long.mp4", "", segments(500, picture_bytes=2**16), was_known=False)
        writer.commit()
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 2**23
    table = open_index(writer.index.path).table
    pictures = table.search().where("video = 'long.mp4'").to_arrow().sort_by("start_seconds")["picture"].to_pylist()
    assert pictures == [picture for _, picture, _ in segments(500, picture_bytes=2**16)]
    assert table.count_rows() == 501
    assert os.listdir(writer.index.path) == ["segments.lance"]


@pytest.mark.parametrize("most_waiting_bytes", [1, 2**26])
def test_a_video_that_fails_on_its_way_leaves_those_beside_it(writer, monkeypatch, most_waiting_bytes):
    monkeypatch.setattr(search, "MOST_WAITING_BYTES", most_waiting_bytes)
    monkeypatch.setattr(search, "ROWS_PER_WRITE", 2)
    writer.commit()

    def failing():
        yield from segments(5)
        raise VideoDecodeError("failing.mp4", "its frames", "damaged")

    writer.add("first.mp4", "", segments(3), was_known=False)
    with pytest.raises(VideoDecodeError):
        writer.add("failing.mp4", "", failing(), was_known=False)
    writer.add("last.mp4", "", segments(4), was_known=False)
    writer.commit()
    videos = open_index(writer.index.path).table.search().to_arrow()["video"].to_pylist()
    assert sorted(videos) == ["first.mp4"] * 3 + ["last.mp4"] * 4


def test_a_file_that_changed_between_two_runs_at_once_is_read_again(classify, writer, rendered):
    """Both add it, as neither has found it in the index, and the one that has read what it is now comes last."""
    video = str(rendered[0])
    for state in ("before", search._state(video, ())):
        writer.add(video, state, segments(3), was_known=False)
        writer.commit()
    for change in ("changed", "unchanged"):
        report = index_videos(classify, [video], output=writer.index.path)
        assert getattr(report, change) == [video]
    assert "before" not in open_index(writer.index.path).table.search().to_arrow()["state"].to_pylist()


def test_what_an_interrupted_commit_has_written_is_not_written_again(writer, monkeypatch):
    add = type(writer.index.table).add

    def interrupted(table, rows):
        add(table, rows)
        raise KeyboardInterrupt

    writer.add("first.mp4", "", segments(3), was_known=False)
    monkeypatch.setattr(type(writer.index.table), "add", interrupted)
    with pytest.raises(KeyboardInterrupt):
        writer.commit()
    writer.commit()
    assert open_index(writer.index.path).table.count_rows() == 3


def test_a_search_for_what_is_like_a_video_keeps_no_pictures_and_may_be_bounded(
    classify, index_of_one, long_video, monkeypatch
):
    monkeypatch.setattr(search, "_picture", None)
    assert search_videos(index_of_one, like=str(long_video), classify=classify)
    num_frames = 5 * open_index(index_of_one).settings.num_frames
    assert search_videos(index_of_one, like=str(long_video), classify=classify, max_frames=num_frames)
    with pytest.raises(VideoDecodeError, match=f"more than {num_frames - 1} frames in all"):
        search_videos(index_of_one, like=str(long_video), classify=classify, max_frames=num_frames - 1)


def test_a_page_that_is_there_stays_unless_it_may_be_replaced(tmp_path):
    (tmp_path / "found.html").write_text("another search's")
    with pytest.raises(ResultExistsError, match=r"found\.html was written by something else meanwhile"):
        write_search_page([], tmp_path / "found.html", title="a door", overwrite=False)
    assert (tmp_path / "found.html").read_text() == "another search's"
    write_search_page([], tmp_path / "found.html", title="a door")
    assert "Nothing found" in (tmp_path / "found.html").read_text(encoding="utf-8")


def test_the_page_shows_pictures_and_times_and_no_name_acts(tmp_path):
    name = "/videos/<script>alert('x')</script>\x1b[2J&.mp4"
    found = [FoundSegment(name, 3661.5, 3665.5, 0.25, b"\xff\xd8"), FoundSegment("s3://b/a.mp4", 0, 4, 0.2, b"")]
    write_search_page(found, tmp_path / "found.html", title="<b>a door")
    page = (tmp_path / "found.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "\x1b" not in page
    assert "&lt;b&gt;a door" in page
    assert html.escape("alert('x')") in page
    assert "1:01:01.5 – 1:01:05.5" in page
    assert page.count("<img") == 2
    assert "#t=3661.50,3665.50" in page
    assert re.findall(r'(?:src|href)="([a-z]+):', page) == ["file", "data", "data"]


@pytest.mark.parametrize("video", ["//host/share/a.mp4", "///host/share/a.mp4", "s3://bucket/a.mp4", "b/a.mp4"])
def test_no_picture_of_the_page_leads_to_another_machine(tmp_path, video):
    write_search_page([FoundSegment(video, 0, 4, 0.2, b"")], tmp_path / "found.html", title="a door")
    targets = re.findall(r'href="([^"]*)"', (tmp_path / "found.html").read_text(encoding="utf-8"))
    assert all(re.match("file:///[^/]", target) for target in targets)
    assert bool(targets) == video.startswith("///")  # which is one slash


def test_the_verbs_say_what_they_did(videos, tmp_path, capsys):
    (videos / "damaged.mp4").write_bytes(b"not a video")
    index = str(tmp_path / "index")
    assert main(["index", str(videos), "--output", index, "--model", "small"]) == 1
    printed = capsys.readouterr()
    assert "3 segments of 3 videos (3 new, 1 could not be read)" in printed.out
    assert "damaged.mp4" in printed.err
    (videos / "damaged.mp4").unlink()
    (videos / "ring.mp4").unlink()
    # The model of the index is the default now.
    assert main(["index", str(videos / "*.mp4"), str(videos), "--output", index, "--json"]) == 0
    *records, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert records == [{"video": str(videos / "ring.mp4"), "change": "gone", "segments": 0}]
    assert (last["videos"], last["gone"], last["unchanged"]) == (2, 1, 2)
    page = tmp_path / "found.html"
    assert main(["search", index, str(STAR), "--top-k", "1", "--json", "--html", str(page)]) == 0
    [found] = map(json.loads, capsys.readouterr().out.splitlines())
    assert found["video"] == str(videos / "star.mp4")
    assert set(found) == {"video", "start_seconds", "end_seconds", "score"}
    assert "star.mp4" in page.read_text(encoding="utf-8")
    assert main(["search", index, "--like", str(videos / "star.mp4"), "--top-k", "1"]) == 0
    assert re.fullmatch(r" 1\.000 +0:00\.0 - +0:04\.0  .*star\.mp4\n", capsys.readouterr().out)


def test_the_model_that_an_index_names_is_said_before_it_is_looked_for(
    classify, videos, tmp_path, capsys, monkeypatch
):
    index_videos(classify, [videos / "star.mp4"], output=tmp_path / "index")
    named = open_index(tmp_path / "index")
    for name in ("someone/a\x1b[31m model", " "):
        named.settings = dataclasses.replace(named.settings, model=name)
        monkeypatch.setattr(search, "open_index", lambda path: named)
        monkeypatch.setattr(search, "find_index", lambda path: named)
        for arguments in (["search", "index", "a star"], ["index", str(videos), "--output", "index"]):
            assert main(arguments) == 1
            said, *rest = capsys.readouterr().err.splitlines()
            if name.strip():
                assert said == "froster: the model of the index is someone/a\\x1b[31m model"
                assert len(rest) == 1
            else:
                assert re.search("does not say which checkpoint it was made with. Give it", said)
                assert not rest
    with pytest.raises(SearchIndexError, match="does not say which checkpoint"):
        search_videos(named, "a star")


@runs("docs/guides/search.md")
def test_every_block_of_the_guide_runs(page, videos, rendered, tmp_path, monkeypatch):
    shutil.copy(rendered[0], tmp_path / "clip.mp4")
    monkeypatch.chdir(tmp_path)
    page.run()


@pytest.fixture(scope="module")
def index_of_one(classify, rendered, tmp_path_factory) -> Path:
    index = tmp_path_factory.mktemp("one") / "index"
    index_videos(classify, rendered[:1], output=index)
    return index


@pytest.mark.parametrize("place", ["segments.lance", "segments.lance/_indices", "segments.lance/data/more"])
def test_a_link_in_an_index_is_refused_and_nothing_behind_it_is_touched(
    classify, index_of_one, rendered, tmp_path, place
):
    elsewhere, index = tmp_path / "elsewhere", tmp_path / "index"
    shutil.copytree(index_of_one / "segments.lance" if place == "segments.lance" else index_of_one, elsewhere)
    shutil.copytree(index_of_one, index)
    shutil.rmtree(index / place, ignore_errors=True)
    (index / place).symlink_to(elsewhere)
    before = {path: path.stat().st_mtime_ns for path in elsewhere.rglob("*")}
    with pytest.raises(SearchIndexError, match="is a link or a special file"):
        index_videos(classify, rendered, output=index)
    assert {path: path.stat().st_mtime_ns for path in elsewhere.rglob("*")} == before


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_in_an_index_is_refused_and_not_waited_for(index_of_one, tmp_path):
    shutil.copytree(index_of_one, tmp_path / "index")
    data = next((tmp_path / "index/segments.lance/data").iterdir())
    data.unlink()
    os.mkfifo(data)
    with pytest.raises(SearchIndexError, match="is a link or a special file"):
        open_index(tmp_path / "index")


def varint(number: int) -> bytes:
    low, rest = number & 127, number >> 7
    return bytes([low | 128]) + varint(rest) if rest else bytes([low])


def with_manifests(index: Path, output: Path, change) -> Path:
    """An index as somebody else could have made it: its manifests' messages are changed."""
    shutil.copytree(index, output)
    for manifest in output.glob("segments.lance/_versions/*.manifest"):
        content = manifest.read_bytes()
        start = int.from_bytes(content[-16:-8], "little")
        message = change(content[start + 4 : -16])
        manifest.write_bytes(content[:start] + len(message).to_bytes(4, "little") + message + content[-16:])
    return output


def fragment(content: bytes) -> bytes:
    return b"\x12" + varint(len(content)) + content


def with_column(message: bytes, content: bytes) -> bytes:
    """Another column in the place of the first one, with which a manifest begins."""
    return b"\x0a" + varint(len(content)) + content + message[2 + message[1] :]


def type_of_column(name: bytes) -> bytes:
    return b"\x12\x05video\x2a" + varint(len(name)) + name


BASE_PATH = b"\x08\x01\x18\x01\x22\x15s3://somebodys/bucket"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        # The number of a field and its wire type, in a varint: base paths, a branch, one of a later release.
        (lambda message: message + varint(18 << 3 | 2) + varint(len(BASE_PATH)) + BASE_PATH, "field 18"),
        (lambda message: varint(18 << 3 | 2) + varint(len(BASE_PATH)) + BASE_PATH + message, "field 18"),
        (lambda message: message + varint(20 << 3 | 2) + b"\x01a", "field 20"),
        (lambda message: message + varint(22 << 3 | 2) + b"\x00", "field 22"),
        # Shorter and longer ways to write the same.
        (lambda message: message + b"\x92\x81\x80\x00" + varint(len(BASE_PATH)) + BASE_PATH, "field 18"),
        (lambda message: message + b"\x2a", "cut short"),
        (lambda message: message + b"\x2a\xff\xff\xff\xff\x0f", "cut short"),
        (lambda message: message + b"\xff" * 20, "is not a manifest"),
        (lambda message: message + b"\x0b", "is not a manifest"),
        (lambda message: b"\x18\x01" * 300_000, "may name other places"),
        # Fragments (field 2): their numbers (1), data files (2), deletions (3) and rows (4).
        (lambda message: message + fragment(b"\x08" + varint(2**63 - 1)), r"a number that none has \(field 1\)"),
        (lambda message: message + fragment(b"\x08" + varint(2**32 - 1)), r"a number that none has \(field 1\)"),
        (lambda message: message + fragment(b"\x2a\x00"), r"a fragment with more than those of an index \(field 5\)"),
        (lambda message: message + fragment(b"\x12\x02\x38\x01"), r"a data file with more .* \(field 7\)"),
        (
            lambda message: message + b"".join(fragment(b"\x08" + varint(i)) for i in range(1, 100_010)),
            "100000 fragments",
        ),
        # A column within another, and rows with numbers of their own.
        (lambda message: message + b"\x0a\x02\x20\x00", "more columns than an index, which has 6"),
        *(
            (lambda message, name=name: with_column(message, type_of_column(name)), "a column of another type than")
            for name in (
                b"fixed_size_list:" * 3000 + b"float" + b":128" * 3000,
                *(b"fixed_size_list:fixed_size_list:float:2:2", b"list", b"struct", b"string\n", b"", b"\xff"),
            )
        ),
        (lambda message: with_column(message, b"\x28\x01"), "a column of another type than"),
        # Columns with each other's numbers (field 3) or those of none, in the table (1) and in a data file (2 and 3).
        *((lambda message, n=n: with_column(message, b"\x18" + n), "of another number") for n in (b"\x01", b"\x06")),
        (lambda message: with_column(message, b"\x18\x00\x18\x05"), "of another number"),
        *(
            (lambda message, old=old, new=new: message.replace(old, new), "a data file with other columns than the 6")
            for old, new in (
                (b"\x12\x06\0\1\2\3\4\5", b"\x12\x06\0\1\2\3\4\6"),
                (b"\x1a\x06\0\1\2\3\4\5", b"\x1a\x06\1\0\2\3\4\5"),
                (b"\x1a\x06\0\1\2\3\4\5", b"\x18\1\x18\2\x18\3\x18\4"),
            )
        ),
        (lambda message: with_column(message, type_of_column(b"string") + b"\x52\x00"), r"a column .* \(field 10\)"),
        (lambda message: message + b"\x48\x02", r"asks for more than an index does .* \(field 9\)"),
        (lambda message: message + fragment(b"\x08\x07") * 2, "two fragments of the number 7"),
        (lambda message: message + fragment(b"\x08\x07\x20" + varint(2**32)), r"none has \(field 4\)"),
        (lambda message: message + fragment(b"\x08\x07\x20\x03\x1a\x02\x20\x04"), "of 3 rows, of which 4 are deleted"),
        (lambda message: message + fragment(b"\x08\x07\x12\x05\x0a\x03a/b"), "a data file of another name"),
    ],
)
def test_a_table_that_names_other_places_is_refused_before_it_is_read(
    index_of_one, tmp_path, monkeypatch, change, message
):
    forged = with_manifests(index_of_one, tmp_path / "index", change)
    monkeypatch.setattr("lancedb.connect", lambda *_, **__: pytest.fail("opened"))
    with pytest.raises(SearchIndexError, match=message) as caught:
        open_index(forged)
    assert "\n" not in str(caught.value)


def test_a_table_with_an_index_of_a_column_is_refused_since_that_could_hide_rows(index_of_one, tmp_path):
    shutil.copytree(index_of_one, tmp_path / "index")
    lancedb = pytest.importorskip("lancedb")
    lancedb.connect(tmp_path / "index").open_table("segments").create_scalar_index("video")
    with pytest.raises(SearchIndexError, match=r"indexes of its columns \(field 6\)"):
        open_index(tmp_path / "index")


@pytest.mark.parametrize("cut", [0, 3, 19, 40])
def test_a_manifest_that_was_cut_short_is_refused_by_name(index_of_one, tmp_path, cut):
    shutil.copytree(index_of_one, tmp_path / "index")
    manifest = next((tmp_path / "index/segments.lance/_versions").glob("*.manifest"))
    manifest.write_bytes(manifest.read_bytes()[:cut])
    with pytest.raises(SearchIndexError, match=re.escape(manifest.name)):
        open_index(tmp_path / "index")


@pytest.mark.parametrize("is_stored", [False, True])
# The place of the columns, and the numbers of buffers and of columns.
@pytest.mark.parametrize(("at", "number"), [(-40, 2**40), (-16, 2**32 - 1), (-12, 2**28)])
def test_a_data_file_that_says_it_has_more_than_it_has_is_refused_by_name(
    index_of_one, tmp_path, monkeypatch, in_store, is_stored, at, number
):
    shutil.copytree(index_of_one, tmp_path / "index")
    data = next((tmp_path / "index/segments.lance/data").iterdir())
    content = bytearray(data.read_bytes())
    length = 8 if at == -40 else 4
    content[len(content) + at : len(content) + at + length] = number.to_bytes(length, "little")
    data.write_bytes(content)
    monkeypatch.setattr("lancedb.connect", lambda *_, **__: pytest.fail("opened"))
    with pytest.raises(SearchIndexError, match=f"{re.escape(data.name)} says at its end"):
        open_index(in_store(tmp_path / "index") if is_stored else tmp_path / "index")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        # Of a page's layout: into how many buffers its values are split; how many bits one has.
        (b"\x38\x01\x48\x03\x50\x01", b"\x38" + varint(2**31) + b"\x48\x03", "more values, or parts of them"),
        (
            b"\x1a\x08\x12\x06\x0a\x04\x0a\x02\x08\x20",
            b"\x1a\x0d\x12\x0b\x0a\x09\x0a\x07\x08" + varint(2**40),
            "more values, or parts of them",
        ),
        # The size of a page's buffers.
        (b"\x12\x02", b"\x12\x07\x04" + varint(2**40) + b"\x12\x02", "a buffer beyond its end"),
    ],
)
def test_a_page_of_more_than_its_file_has_is_refused(old, new, message):
    layout = b"\x1a\x08\x12\x06\x0a\x04\x0a\x02\x08\x20\x32\x01\x01\x38\x01\x48\x03\x50\x01"
    page = b"\x12\x02\x04\x68\x18\x03"

    def data_file(page: bytes, layout: bytes) -> bytes:
        for tag in (b"\x0a", b"\x12", b"\x0a", b"\x12", b"\x22"):
            layout = tag + varint(len(layout)) + layout
        column = b"\x12" + varint(len(page + layout)) + page + layout
        table = 256 + len(column)
        places = struct.pack("<QQ", 256, len(column)) + struct.pack("<QQQII", 256, table, table + 16, 0, 1)
        return bytes(256) + column + places + b"\2\0\2\0LANC"

    def check(content: bytes) -> None:
        _check_data_file(lambda start: content[start:], len(content), "name")

    check(data_file(page, layout))
    forged = data_file(page.replace(old, new), layout.replace(old, new) if "buffer" not in message else layout)
    with pytest.raises(ValueError, match=message):
        check(forged)


# What the footer says of the batch: the size of its body, and of its head; and the size of what is packed in it.
@pytest.mark.parametrize(("at", "number"), [(-26, 2**40), (-26, -1), (-34, 2**31 - 1), (-250, 2**40), (-250, -2)])
def test_a_list_of_deleted_rows_that_says_it_has_more_than_it_has_is_refused(
    classify, videos, tmp_path, monkeypatch, at, number
):
    monkeypatch.setattr(search, "_put_files_together", lambda table: None)
    index_videos(classify, [videos], output=tmp_path / "index")
    (videos / "ring.mp4").unlink()
    index_videos(classify, [videos], output=tmp_path / "index")
    assert len(open_index(tmp_path / "index")) == 2
    (deletions,) = (tmp_path / "index/segments.lance/_deletions").iterdir()
    content = bytearray(deletions.read_bytes())
    length = 4 if at == -34 else 8
    content[len(content) + at : len(content) + at + length] = number.to_bytes(length, "little", signed=True)
    deletions.write_bytes(content)
    monkeypatch.setattr("lancedb.connect", lambda *_, **__: pytest.fail("opened"))
    with pytest.raises(SearchIndexError, match=f"{re.escape(deletions.name)} "):
        open_index(tmp_path / "index")


def test_a_data_file_that_ends_elsewhere_than_its_manifest_says_is_refused(index_of_one, classify, tmp_path):
    """LanceDB reads the end that the manifest states, which can be another one than the file's."""
    index = shutil.copytree(index_of_one, tmp_path / "index")
    (data,) = (index / "segments.lance" / "data").iterdir()
    content = data.read_bytes()
    data.write_bytes(content + content[-40:])
    with pytest.raises(
        SearchIndexError, match=f"states another size of a data file than its {len(content) + 40} bytes"
    ):
        search_videos(index, "a red star", classify=classify)


def test_a_catalogue_beside_a_table_is_refused(index_of_one, tmp_path):
    shutil.copytree(index_of_one, tmp_path / "index")
    shutil.copytree(index_of_one / "segments.lance", tmp_path / "index/__manifest")
    with pytest.raises(SearchIndexError, match="__manifest may name other places"):
        open_index(tmp_path / "index")


@pytest.fixture
def in_store():
    """Puts a folder into a store; an address that LanceDB has not read before the store was looked at."""
    import fsspec

    store = fsspec.filesystem("memory")

    def put(folder: Path) -> str:
        for file in filter(Path.is_file, folder.rglob("*")):
            store.pipe(f"/bucket/index/{file.relative_to(folder)}", file.read_bytes())
        return "memory://bucket/index"

    yield put
    if store.exists("/bucket"):
        store.rm("/bucket", recursive=True)


def other_places(index: Path, output: Path, kind: str) -> Path:
    if kind == "field 18":
        return with_manifests(
            index, output, lambda message: message + varint(18 << 3 | 2) + varint(len(BASE_PATH)) + BASE_PATH
        )
    shutil.copytree(index, output)
    manifest = next((output / "segments.lance/_versions").glob("*.manifest"))
    if kind == "cut short":
        manifest.write_bytes(manifest.read_bytes()[:19])
    elif kind == "is not a manifest":
        with open(manifest, "r+b") as file:
            file.truncate(MOST_BYTES + 1)
    else:
        shutil.copytree(output / "segments.lance", output / "__manifest")
    return output


@pytest.mark.parametrize("kind", ["field 18", "cut short", "is not a manifest", "__manifest may name other places"])
def test_a_table_in_a_store_that_names_other_places_is_refused_before_it_is_read(
    index_of_one, tmp_path, monkeypatch, in_store, kind
):
    address = in_store(other_places(index_of_one, tmp_path / "index", kind))
    monkeypatch.setattr("lancedb.connect", lambda *_, **__: pytest.fail("opened"))
    with pytest.raises(SearchIndexError, match=f"{address} is not an index that lies in its folder alone.*{kind}"):
        open_index(address)


def test_an_index_in_a_store_is_opened_where_it_names_no_other_places(index_of_one, monkeypatch, in_store):
    lancedb = pytest.importorskip("lancedb")
    address, connect = in_store(index_of_one), lancedb.connect
    monkeypatch.setattr(lancedb, "connect", lambda path, **rest: connect(str(index_of_one), **rest))
    assert open_index(address).states() == open_index(index_of_one).states()
    # What has looked before LanceDB has seen nothing.
    monkeypatch.setattr(lancedb, "connect", lambda path, **rest: connect(str(index_of_one), **rest))
    with pytest.raises(SearchIndexError, match="no table where fsspec looks"):
        open_index("memory://another/index")


def test_an_index_in_a_store_that_nothing_can_look_into_is_one_line(monkeypatch):
    monkeypatch.setattr("lancedb.connect", lambda *_, **__: pytest.fail("opened"))
    with pytest.raises(SearchIndexError, match=r"^nowhere://a/index cannot be read: .*Protocol not known: nowhere"):
        open_index("nowhere://a/index")


def test_the_address_of_a_folder_of_this_machine_is_a_folder(index_of_one, tmp_path):
    shutil.copytree(index_of_one, tmp_path / "index")
    assert len(open_index(f"file://{tmp_path}/index")) == len(open_index(index_of_one))
    (tmp_path / "index/link").symlink_to("/etc")
    with pytest.raises(SearchIndexError, match="is a link or a special file"):
        open_index(f"file://{tmp_path}/index")


def copy_with(index: Path, output: Path, settings=(), **columns) -> Path:
    """An index as somebody else could have made it: other settings, or other values in its rows."""
    lancedb, pyarrow = pytest.importorskip("lancedb"), pytest.importorskip("pyarrow")
    table = lancedb.connect(str(index)).open_table("segments")
    rows = table.to_arrow()
    stored = {**json.loads(table.schema.metadata[b"froster"]), **dict(settings)}
    for name, value in columns.items():
        values = value if isinstance(value, pyarrow.Array) else pyarrow.array([value] * len(rows), rows[name].type)
        place = rows.schema.get_field_index(name)
        rows = rows.set_column(place, pyarrow.field(name, values.type, nullable=False), values)
    rows = rows.replace_schema_metadata({b"froster": json.dumps(stored).encode()})
    lancedb.connect(str(output)).create_table("segments", rows)
    return output


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_frames": 10**9}, "num_frames is 1000000000; 1 to 1024"),
        ({"num_frames": 0}, "num_frames is 0"),
        ({"window_seconds": 1e9, "stride_seconds": 1e-3}, "a window has at most 1000 strides"),
        ({"window_seconds": 1e308, "stride_seconds": 1e-308}, "damaged"),
        ({"probe": [10**400]}, "damaged"),
        ({"probe": []}, "probe is not an embedding"),
        ({"model": "a" * 2**20}, r"its settings have \d+ bytes"),
    ],
)
def test_settings_that_no_index_has_are_refused_before_anything_is_computed(
    index_of_one, tmp_path, monkeypatch, settings, message
):
    monkeypatch.setattr(search, "embed_probe", lambda *_: pytest.fail("computed"))
    with pytest.raises(SearchIndexError, match=message):
        open_index(copy_with(index_of_one, tmp_path / "index", settings))


def test_a_probe_of_whole_numbers_is_that_of_another_model(classify, index_of_one, tmp_path):
    probe = [1] * len(open_index(index_of_one).settings.probe)
    forged = copy_with(index_of_one, tmp_path / "index", {"probe": probe})
    with pytest.raises(SearchIndexError, match="was made with the model"):
        search_videos(forged, "a star", classify=classify)


@pytest.mark.parametrize(("value", "message"), [(0.5, "or of other types"), (7, "a column of another type than")])
def test_columns_of_other_types_are_refused(index_of_one, tmp_path, value, message):
    pyarrow = pytest.importorskip("pyarrow")
    numbers = pyarrow.array([value] * len(open_index(index_of_one)))
    with pytest.raises(SearchIndexError, match=message):
        open_index(copy_with(index_of_one, tmp_path / "index", video=numbers))


@pytest.mark.parametrize(
    "columns",
    [
        {"start_seconds": float("nan")},
        {"end_seconds": 1e308},
        {"start_seconds": 10.0, "end_seconds": 5.0},
        {"embedding": None},
    ],
    ids=str,
)
def test_rows_that_no_index_has_are_named_and_never_found(classify, index_of_one, tmp_path, columns):
    if columns == {"embedding": None}:
        columns = {"embedding": [3e38] * len(open_index(index_of_one).settings.probe)}
    forged = copy_with(index_of_one, tmp_path / "index", **columns)
    with pytest.raises(SearchIndexError, match="is damaged: a segment of"):
        search_videos(forged, "a red star", classify=classify)


def test_an_index_of_embeddings_that_are_not_numbers_is_damaged_and_not_empty(classify, index_of_one, tmp_path):
    lancedb = pytest.importorskip("lancedb")
    forged = copy_with(index_of_one, tmp_path / "index")
    width = len(open_index(forged).settings.probe)
    # LanceDB adds no such row, but changes one.
    values = ", ".join(["cast('nan' as float)"] * width)
    embedding = f"arrow_cast([{values}], 'FixedSizeList({width}, Float32)')"
    lancedb.connect(str(forged)).open_table("segments").update(values_sql={"embedding": embedding})
    with pytest.raises(SearchIndexError, match=r"index is damaged: none of its \d+ segments has an embedding"):
        search_videos(forged, "a red star", classify=classify)


@pytest.mark.parametrize(
    ("column", "value"), [("video", "/" + "a" * 9000), ("state", "1" * 2000), ("picture", bytes(2**19))], ids=str
)
def test_values_that_are_larger_than_those_of_an_index_are_refused(classify, index_of_one, tmp_path, column, value):
    forged = copy_with(index_of_one, tmp_path / "index", **{column: value})
    told = f"index is damaged: a segment has a {column} of {len(value)} bytes"
    if column != "state":
        with pytest.raises(SearchIndexError, match=told):
            search_videos(forged, "a red star", classify=classify)
    if column != "picture":
        with pytest.raises(SearchIndexError, match=told):
            index_videos(classify, [], output=forged)


def test_pictures_are_read_of_what_is_found_alone(classify, index_of_one, tmp_path):
    """A thousand segments at the same time share a picture of a megabyte, which takes no room on the disk."""
    pyarrow = pytest.importorskip("pyarrow")
    index = open_index(index_of_one)
    row = index.table.to_arrow().slice(0, 1).to_pylist()[0]
    size, rows = index.settings.probe, [row | {"picture": bytes(2**20)}] * 1000
    assert len(row["embedding"]) == len(size)
    forged = shutil.copytree(index_of_one, tmp_path / "index")
    table = open_index(forged).table
    table.delete("true")
    table.add(pyarrow.Table.from_pylist(rows, schema=table.schema))
    before = pyarrow.total_allocated_bytes()
    with pytest.raises(SearchIndexError, match="a segment has a picture of 1048576 bytes"):
        search_videos(forged, "a red star", classify=classify, top_k=5)
    assert pyarrow.total_allocated_bytes() - before < 2**27


def with_a_fragment_repeated(message: bytes, times: int) -> bytes:
    """A manifest's message that lists the rows of one file many times: the columns are its fields 1, files 2."""
    place = 0
    while message[place] == 1 << 3 | 2:
        place += 2 + message[place + 1]
    if message[place] != 2 << 3 | 2:
        # That of the empty table.
        return message
    content = message[place + 2 : place + 2 + message[place + 1]]
    return (
        message[:place] + b"".join(fragment(content + b"\x08" + varint(9 + n)) for n in range(times)) + message[place:]
    )


@pytest.mark.parametrize("beside", [None, "segments.lance/data/other.lance", "segments.lance/data/below/other"])
def test_a_table_with_more_segments_than_its_files_have_room_for_is_refused(index_of_one, tmp_path, beside):
    forged = with_manifests(index_of_one, tmp_path / "index", lambda message: with_a_fragment_repeated(message, 5000))
    if beside is not None:
        # Large, takes no room, and is none of the table's.
        (forged / beside).parent.mkdir(exist_ok=True)
        with (forged / beside).open("wb") as file:
            file.truncate(2**30)
    num_rows = 5001 * len(open_index(index_of_one))
    with pytest.raises(SearchIndexError, match=f"{num_rows} segments, for which its files are too small"):
        open_index(forged)


def test_an_index_that_is_made_again_under_one_who_has_it_open_is_not_searched(
    classify, videos, tmp_path, monkeypatch
):
    monkeypatch.setattr(search, "SEEN_WITHIN", timedelta(0))
    index_videos(classify, [videos], output=tmp_path / "index")
    index = open_index(tmp_path / "index")
    assert search_videos(index, "a red star", classify=classify)
    shutil.rmtree(tmp_path / "index")
    index_videos(classify, [videos], output=tmp_path / "index", window_seconds=2)
    with pytest.raises(SearchIndexError, match="has been made again since it was opened"):
        search_videos(index, "a red star", classify=classify)


def test_a_search_begins_again_where_another_process_moves_the_rows_meanwhile(classify, videos, tmp_path, monkeypatch):
    """Rows that are written together get other numbers when LanceDB joins files."""
    index_videos(classify, [videos / "star.mp4"], output=tmp_path / "index")
    index_videos(classify, [videos], output=tmp_path / "index")
    index = open_index(tmp_path / "index")
    expected = search_videos(index, "a red star", classify=classify, top_k=3)
    take, moved = type(index.table).take_row_ids, []

    def take_later(table, ids):
        if not moved:
            moved.append(ids)
            rows = table.to_arrow()
            table.delete("true")
            table.add(rows.take(list(reversed(range(len(rows))))))
        return take(table, ids)

    monkeypatch.setattr(type(index.table), "take_row_ids", take_later)
    assert search_videos(index, "a red star", classify=classify, top_k=3) == expected
    assert len(moved) == 1
    assert len(expected) == 3


def test_more_segments_at_one_time_than_an_index_has_are_refused(classify, index_of_one, tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    table = open_index(shutil.copytree(index_of_one, tmp_path / "index")).table
    row = table.to_arrow().slice(0, 1).to_pylist()[0]
    table.add(pyarrow.Table.from_pylist([row] * 1000, schema=table.schema))
    with pytest.raises(SearchIndexError, match="more segments of a video lie at the same time"):
        search_videos(tmp_path / "index", "a red star", classify=classify)


def test_a_video_that_two_runs_have_read_is_found_once(classify, videos, tmp_path):
    """Where they began at the same time, neither knew of the other."""
    index_videos(classify, [videos], output=tmp_path / "index")
    expected = search_videos(tmp_path / "index", "a red star", classify=classify, top_k=3)
    table = open_index(tmp_path / "index").table
    table.add(table.to_arrow())
    assert search_videos(tmp_path / "index", "a red star", classify=classify, top_k=3) == expected
    assert len(expected) == 3


def test_two_runs_that_begin_in_one_new_folder_keep_what_each_other_has_made(classify, videos, tmp_path, monkeypatch):
    def while_another_run_ends(classify, num_frames):
        monkeypatch.undo()
        index_videos(classify, [videos / "star.mp4"], output=tmp_path / "index")
        return embed_probe(classify, num_frames)

    monkeypatch.setattr(search, "embed_probe", while_another_run_ends)
    report = index_videos(classify, [videos], output=tmp_path / "index")
    assert (len(report.new), len(report.unchanged), report.num_videos) == (2, 1, 3)


def test_of_two_runs_that_make_a_table_in_the_same_moment_the_second_takes_that_of_the_first(
    classify, videos, tmp_path, monkeypatch
):
    """LanceDB would let it replace the table, with all rows that the first one has written by then."""
    held, index = threading.Event(), tmp_path / "index"

    @contextlib.contextmanager
    def noted(folder):
        held.set()
        with one_at_a_time(folder):
            yield

    (index / "segments.lance").mkdir(parents=True)
    monkeypatch.setattr(search, "one_at_a_time", noted)
    with ThreadPoolExecutor(1) as thread:
        with one_at_a_time(index):
            second = thread.submit(index_videos, classify, [videos], output=index)
            assert held.wait(60)
            monkeypatch.undo()
            monkeypatch.setattr(search, "one_at_a_time", lambda folder: contextlib.nullcontext())
            assert index_videos(classify, [videos / "star.mp4"], output=index).num_videos == 1
            assert not second.done()
        assert (len(second.result().new), len(second.result().unchanged)) == (2, 1)


def test_two_runs_that_put_files_together_at_once_have_both_done_their_work(classify, videos, tmp_path, monkeypatch):
    index = index_videos(classify, [videos / "star.mp4"], output=tmp_path / "index") and open_index(tmp_path / "index")

    def preempted(*_, **__):
        raise RuntimeError("lance error: Retryable commit conflict for version 43: This Rewrite transaction was ...")

    monkeypatch.setattr(type(index.table), "optimize", preempted)
    assert index_videos(classify, [videos], output=tmp_path / "index").num_videos == 3


def test_where_a_run_has_ended_before_its_table_was_there_the_next_one_makes_it(classify, videos, tmp_path):
    """As on a full disk."""
    (tmp_path / "index/segments.lance/_versions").mkdir(parents=True)
    with pytest.raises(SearchIndexError, match="There is no index"):
        open_index(tmp_path / "index")
    assert index_videos(classify, [videos / "star.mp4"], output=tmp_path / "index").num_videos == 1


def test_names_that_no_index_would_read_again_cost_their_own_videos(classify, rendered, tmp_path, monkeypatch):
    address = "https://example.org/" + "a" * 9000 + ".mp4"
    monkeypatch.setattr(classify.processor.video_processor, "allow_urls", "https")
    report = index_videos(classify, [rendered[0], address], output=tmp_path / "index")
    assert report.new == [str(rendered[0])]
    assert report.errors == {address: "its path has 9024 bytes; at most 8192 are kept"}
    monkeypatch.setattr(search, "MOST_NAME_BYTES", 100)
    with pytest.raises(ValueError, match=r"names of its videos have more than .* Make several indexes"):
        index_videos(classify, [rendered[1]], output=tmp_path / "index")


def test_more_names_of_segments_than_are_held_end_a_search(classify, index_of_one, monkeypatch):
    assert search_videos(index_of_one, "a red star", classify=classify)
    monkeypatch.setattr(search, "MOST_NAME_BYTES", 100)
    with pytest.raises(SearchIndexError, match=r"names of its videos have more than .* Make several indexes"):
        search_videos(index_of_one, "a red star", classify=classify)


@pytest.mark.parametrize("name", ["{folder}/a\0b.mp4", ""])
def test_a_row_of_no_file_is_named_and_ends_what_reads_it(classify, index_of_one, rendered, tmp_path, name):
    forged = copy_with(index_of_one, tmp_path / "index", video=name.format(folder=rendered[0].parent))
    told = r"index is damaged: a segment is of the video .*, which is not the name of a file"
    with pytest.raises(SearchIndexError, match=told):
        search_videos(forged, "a red star", classify=classify)
    with pytest.raises(SearchIndexError, match=told):
        index_videos(classify, [rendered[0].parent], output=forged)


def test_a_data_file_that_was_cut_short_is_one_line_with_the_name_of_the_index(classify, index_of_one, tmp_path):
    shutil.copytree(index_of_one, tmp_path / "index")
    data = next((tmp_path / "index/segments.lance/data").iterdir())
    data.write_bytes(data.read_bytes()[:200])
    with pytest.raises(SearchIndexError, match="index is damaged") as caught:
        search_videos(tmp_path / "index", "a red star", classify=classify)
    # LanceDB's own words name lines of its code.
    assert not re.search(r"\n|lance|Error|\.rs", str(caught.value).replace(str(tmp_path), ""))


def test_a_file_that_was_cut_off_while_it_was_written_is_undone(
    classify, index_of_one, rendered, tmp_path, monkeypatch
):
    """As by a limit of the size of files, which LanceDB does not notice."""
    index = open_index(shutil.copytree(index_of_one, tmp_path / "index"))
    states = index.states()
    add, before = type(index.table).add, set(Path(index.path).rglob("*.lance"))

    def cut_off(table, rows):
        add(table, rows)
        (written,) = set(Path(index.path).rglob("*.lance")) - before
        os.truncate(written, written.stat().st_size // 2)

    monkeypatch.setattr(type(index.table), "add", cut_off)
    with pytest.raises(OSError, match=r"a file was cut off.* The index is as it was"):
        index_videos(classify, rendered, output=index.path)
    monkeypatch.undo()
    assert open_index(index.path).states() == states
    assert index_videos(classify, rendered, output=index.path).num_videos == len(rendered)


@contextlib.contextmanager
def small_disk(folder: Path, size: str):
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("this machine does not let root mount a tmpfs")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_full_disk_ends_the_run_with_one_line_and_the_index_is_as_it_was(index_of_one, rendered, tmp_path):
    with small_disk(tmp_path, "64k"):
        index = shutil.copytree(index_of_one, tmp_path / "index")
        with open(tmp_path / "filling", "wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(4096)):
                pass
        states = open_index(index).states()
        with pytest.raises(OSError, match="index cannot be written: No space left on device"):
            index_videos(load_pipeline("small", device="cpu"), rendered, output=index)
        assert open_index(index).states() == states


@pytest.mark.parametrize("room", [12, 16, 20, 24, 28, 32])
def test_a_disk_that_fills_up_meanwhile_costs_no_video_its_segments(classify, rendered, tmp_path, room):
    video, disk = shutil.copy(rendered[0], tmp_path), tmp_path / "disk"
    disk.mkdir()
    with small_disk(disk, "200k"):
        index = disk / "index"
        index_videos(classify, video, output=index)
        segments = len(open_index(index))
        (disk / "filling").write_bytes(bytes(shutil.disk_usage(disk).free - room * 1024))
        os.utime(video)
        with contextlib.suppress(OSError):
            index_videos(classify, video, output=index)
        assert len(open_index(index)) == segments > 0
