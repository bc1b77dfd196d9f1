import multiprocessing
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Value, Video
from torch.utils.data import DataLoader

from froster_hf.cli import describe_error
from froster_hf.data import (
    DecodeFailureLog,
    EpochSampler,
    EvaluationClips,
    TooManyDecodeFailures,
    TrainingClips,
    collate_clips,
    read_decode_failures,
    read_video_folder,
    read_video_list,
)
from froster_hf.data.video_table import table_fingerprint
from froster_hf.processing.text_files import AnnotationError
from froster_hf.processing.video_processing_froster import FrosterVideoProcessor
from froster_hf.video.decoding import DecodingUnavailableError
from froster_hf.video.workers import share_batch


@pytest.fixture(scope="module")
def table(video_folder):
    return read_video_folder(video_folder)


@pytest.fixture
def damaged(video_folder, tmp_path):
    """Eight videos of which rows 1 and 4 cannot be read: one is garbage, one is not there."""
    (tmp_path / "garbage.mp4").write_bytes(b"\0" * 4096)
    names = ["a", "garbage", "b", "c", "gone", "d", "e", "f"]
    for name in set(names) - {"garbage", "gone"}:
        (tmp_path / f"{name}.mp4").write_bytes((video_folder / "juggling" / "a.mp4").read_bytes())
    (tmp_path / "list.csv").write_text("".join(f"{name}.mp4,{index}\n" for index, name in enumerate(names)))
    return read_video_list(tmp_path / "list.csv", root=tmp_path, labels=[f"label {n}" for n in names], missing="keep")


def epochs(clips, *, num_workers, epochs=2, persistent=False):
    """What a run would see: (epoch, names, labels, failed rows, pixels) of every batch."""
    sampler = EpochSampler(len(clips), seed=5)
    loader = DataLoader(
        clips,
        sampler=sampler,
        batch_size=3,
        num_workers=num_workers,
        collate_fn=collate_clips,
        persistent_workers=persistent,
    )
    seen = []
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        for batch in loader:
            failed = [failure.row for failure in batch["decode_failures"]]
            seen.append((epoch, batch["video_names"], batch["labels"].tolist(), failed, batch["pixel_values_videos"]))
    return seen


def assert_same_run(one, other):
    assert [batch[:4] for batch in one] == [batch[:4] for batch in other]
    for (*_, pixels), (*_, other_pixels) in zip(one, other):
        assert torch.equal(pixels, other_pixels)


def test_a_training_sample_is_a_function_of_seed_epoch_and_index(table, video_processor):
    clips = TrainingClips(table, video_processor=video_processor, seed=1)
    sample = clips[0, 3]
    assert sample["pixel_values_videos"].shape == (1, 4, 3, 32, 32)
    assert sample["labels"] == 1
    assert Path(sample["video_names"]).parts[-2:] == ("brush_hair", "b.mp4")
    again = TrainingClips(table, video_processor=video_processor, seed=1)
    _ = again[4, 2]
    assert torch.equal(again[0, 3]["pixel_values_videos"], sample["pixel_values_videos"])
    assert not torch.equal(again[1, 3]["pixel_values_videos"], sample["pixel_values_videos"])
    other_seed = TrainingClips(table, video_processor=video_processor, seed=2)
    assert not torch.equal(other_seed[0, 3]["pixel_values_videos"], sample["pixel_values_videos"])


def test_the_global_random_state_neither_matters_nor_moves(table, video_processor):
    clips = TrainingClips(table, video_processor=video_processor, seed=1)
    first = clips[0, 0]["pixel_values_videos"]
    torch.manual_seed(123)
    state = torch.random.get_rng_state()
    assert torch.equal(clips[0, 0]["pixel_values_videos"], first)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("persistent", [False, True])
def test_workers_change_nothing(damaged, video_processor, persistent):
    clips = TrainingClips(damaged, video_processor=video_processor, seed=1)
    alone = epochs(clips, num_workers=0)
    assert_same_run(alone, epochs(clips, num_workers=2, persistent=persistent))


def test_undecodable_videos_are_replaced_named_and_the_batches_keep_their_size(damaged, video_processor):
    run = epochs(TrainingClips(damaged, video_processor=video_processor, seed=1), num_workers=0)
    assert [len(names) for _, names, *_ in run] == [3, 3, 2] * 2
    assert {row for _, _, _, failed, _ in run for row in failed} == {1, 4}
    for _, names, labels, _, pixels in run:
        assert not {Path(name).stem for name in names} & {"garbage", "gone"}
        texts = damaged.features["label"].names
        assert [texts[label] for label in labels] == [f"label {Path(name).stem}" for name in names]
        assert len(pixels) == len(names)


@pytest.mark.slow
def test_a_fresh_process_draws_the_same_samples(table, video_folder, video_processor, tmp_path):
    video_processor.save_pretrained(tmp_path)
    script = """
import sys, torch
from froster_hf.data import TrainingClips, read_video_folder
from froster_hf.processing.video_processing_froster import FrosterVideoProcessor
videos, folder = sys.argv[1:]
processor = FrosterVideoProcessor.from_pretrained(folder)
clips = TrainingClips(read_video_folder(videos), video_processor=processor, seed=1)
torch.save(torch.cat([clips[2, row]["pixel_values_videos"] for row in range(6)]), f"{folder}/samples.pt")
"""
    subprocess.run([sys.executable, "-c", script, str(video_folder), str(tmp_path)], check=True, timeout=120)
    here = TrainingClips(table, video_processor=video_processor, seed=1)
    backwards = [here[2, row]["pixel_values_videos"] for row in reversed(range(6))]
    assert torch.equal(torch.load(tmp_path / "samples.pt"), torch.cat(backwards[::-1]))


def test_a_fault_that_has_passed_is_forgotten(damaged, video_processor):
    """A hiccup of a disk replaces a video while it lasts, and not in the one worker that met it for good."""
    clips = TrainingClips(damaged, video_processor=video_processor, seed=1)
    path = Path(damaged[3]["video"]["path"])
    away = path.with_suffix(".away")
    path.rename(away)
    (replaced,) = {failure.row for failure in clips[0, 3]["decode_failures"]} - {1, 4}
    away.rename(path)
    assert replaced == 3
    sample, fresh = clips[1, 3], TrainingClips(damaged, video_processor=video_processor, seed=1)[1, 3]
    assert sample["decode_failures"] == []
    assert torch.equal(sample["pixel_values_videos"], fresh["pixel_values_videos"])


def test_a_failure_is_current_until_its_video_is_mended_or_another(damaged, video_processor):
    clips = TrainingClips(damaged, video_processor=video_processor, seed=1)
    failures = {row: clips[0, row]["decode_failures"][0] for row in (1, 4)}
    assert all(clips.is_current(failure) for failure in failures.values())
    others = TrainingClips(damaged.select([0, 1, 2, 4]), video_processor=video_processor, seed=1)
    assert [others.is_current(failure) for failure in failures.values()] == [True, False]
    good = Path(damaged[0]["video"]["path"]).read_bytes()
    for row in (1, 4):
        Path(damaged[row]["video"]["path"]).write_bytes(good)
    assert not any(clips.is_current(failure) for failure in failures.values())
    assert clips[1, 1]["decode_failures"] == []


def test_no_log_and_no_file_of_failures_shows_an_account_or_a_query(video_processor, tmp_path, caplog):
    def clips(token):
        address = f"https://user:PASSWORD@127.0.0.1/x.mp4?token={token}"
        table = stored_table([{"path": address, "bytes": None}] * 2, Video(decode=False))
        return EvaluationClips(table, video_processor=video_processor)

    sample, log = clips("SECRET")[1], DecodeFailureLog(tmp_path, num_videos=2, max_share=0.0)
    with pytest.raises(TooManyDecodeFailures) as told:
        log.record(sample["decode_failures"])
    stored = "".join(path.read_text() for path in tmp_path.iterdir())
    for text in (str(told.value), caplog.text, stored, sample["video_names"]):
        assert "127.0.0.1/x.mp4" in text
        assert "PASSWORD" not in text
        assert "SECRET" not in text
    # Shown alike, they are told apart all the same.
    (failure,) = read_decode_failures(tmp_path).values()
    assert clips("SECRET").is_current(failure)
    assert not clips("OTHER").is_current(failure)


class BrokenMachine(FrosterVideoProcessor):
    """Every video meets the error."""

    error: Exception

    def preprocess(self, videos, **kwargs):
        raise self.error


@pytest.mark.parametrize("error", [DecodingUnavailableError("no process"), OSError(24, "Too many open files")])
@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_fault_of_the_machine_stops_the_work_and_is_booked_on_no_video(table, error, num_workers):
    processor = BrokenMachine(num_frames=2)
    processor.error = error
    training = TrainingClips(table, video_processor=processor, seed=1)
    sampler = EpochSampler(len(training), seed=1)
    for clips, options in ((training, {"sampler": sampler}), (EvaluationClips(table, video_processor=processor), {})):
        with pytest.raises(type(error), match=r"no process|Too many open files"):
            next(iter(DataLoader(clips, num_workers=num_workers, collate_fn=collate_clips, **options)))


def test_a_worker_without_shared_memory_for_its_batch_ends_the_work_and_is_not_waited_for(table, monkeypatch):
    """As in a container with 64 MB of it; torch's own thread would drop the batch."""
    clips = EvaluationClips(table, video_processor=FrosterVideoProcessor(num_frames=2))

    def fail(tensor):
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)")

    monkeypatch.setattr(torch.Tensor, "share_memory_", fail)
    assert next(iter(DataLoader(clips, collate_fn=collate_clips)))["video_names"]
    with pytest.raises(
        DecodingUnavailableError, match=r"for \d+ MB of frames: .*No space left .* --shm-size=8g"
    ) as caught:
        next(iter(DataLoader(clips, num_workers=1, collate_fn=collate_clips)))
    assert describe_error(caught.value).startswith("A worker has no shared memory for")
    monkeypatch.setattr("froster_hf.video.workers.get_worker_info", object)
    with pytest.raises(DecodingUnavailableError, match=" for 1 MB of frames"):
        share_batch({"pixel_values_videos": torch.zeros(1)})


@pytest.mark.parametrize("folder", ["long" * 30, "not_there"])
def test_a_worker_that_cannot_hand_on_its_batch_ends_the_work_and_is_not_waited_for(
    table, tmp_path, monkeypatch, folder
):
    """A socket has no path of more than 108 bytes, which schedulers of clusters give a job's TMPDIR."""
    if folder != "not_there":
        (tmp_path / folder).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / folder))
    monkeypatch.delitem(multiprocessing.current_process()._config, "tempdir", raising=False)
    clips = EvaluationClips(table, video_processor=FrosterVideoProcessor(num_frames=2))
    assert next(iter(DataLoader(clips, collate_fn=collate_clips)))["video_names"]
    with pytest.raises(DecodingUnavailableError, match=rf"cannot hand on its batches: .*{folder}: set TMPDIR"):
        next(iter(DataLoader(clips, num_workers=1, collate_fn=collate_clips, timeout=60)))


def stored_table(videos, feature, labels=(0, 1)) -> Dataset:
    """As somebody's file holds it: `datasets` would refuse some of such rows where it writes them."""
    schema = Features({"video": feature, "label": ClassLabel(names=["x", "y"])}).arrow_schema
    return Dataset(pyarrow.table([videos, list(labels)], schema=schema))


@pytest.mark.parametrize(
    ("nothing", "feature"),
    [
        (None, Video(decode=False)),
        ({"path": None, "bytes": None}, Video(decode=False)),
        ({"path": "", "bytes": None}, Video(decode=False)),
        ("", Value("string")),
        (None, Value("string")),
        (7, Value("int64")),
        ([None], [Value("string")]),
        ([], [Value("string")]),
    ],
    ids=str,
)
def test_a_row_that_holds_no_video_costs_itself_alone_and_is_told_by_its_row(nothing, feature, video_processor):
    table = stored_table([nothing, nothing], feature)
    sample = EvaluationClips(table, video_processor=video_processor)[1]
    assert sample["labels"] == -100
    assert [(failure.row, failure.video) for failure in sample["decode_failures"]] == [(1, "<row 1>")]
    training = TrainingClips(table, video_processor=video_processor, seed=1, max_replacements=1)
    with pytest.raises(TooManyDecodeFailures, match="<row 1>"):
        training[0, 1]
    assert training.is_current(sample["decode_failures"][0])
    assert table_fingerprint(table) != table_fingerprint(stored_table([b"video"] * 2, Value("binary")))


def test_a_row_without_a_video_is_replaced_in_training(table, video_processor):
    path = table[0]["video"]
    clips = TrainingClips(stored_table([None, path], Video(decode=False)), video_processor=video_processor, seed=1)
    sample = clips[0, 0]
    assert {failure.row for failure in sample["decode_failures"]} == {0}
    assert sample["labels"] == 1
    assert sample["video_names"] == path["path"]


@pytest.mark.parametrize(("label", "told"), [(None, "no label"), (-1, "no label"), (2, "the label 2, of 2 names")])
def test_a_row_without_a_label_is_named_before_a_training(label, told, video_processor):
    table = stored_table([None, None], Video(decode=False), labels=(0, label))
    with pytest.raises(AnnotationError, match=f"Row 1 of the data set has {told}"):
        TrainingClips(table, video_processor=video_processor, seed=1)


def test_a_label_that_the_loss_leaves_out_is_trained_past(video_processor):
    table = stored_table([None, None], Video(decode=False), labels=(0, -100))
    assert TrainingClips(table, video_processor=video_processor, seed=1).labels.tolist() == [0, -100]


def test_when_every_draw_fails_the_run_stops_with_the_names(damaged, video_processor):
    broken = damaged.select([1, 4])
    clips = TrainingClips(broken, video_processor=video_processor, seed=1, max_replacements=3)
    with pytest.raises(TooManyDecodeFailures, match=r"(?s)4 videos drawn.*garbage\.mp4"):
        clips[0, 0]


def test_training_clips_refuse_an_index_without_an_epoch(table, video_processor):
    with pytest.raises(TypeError, match="EpochSampler"):
        TrainingClips(table, video_processor=video_processor, seed=1)[0]


def test_an_evaluation_sample_equals_the_processor_s_own_output(table, video_processor):
    clips = EvaluationClips(table, video_processor=video_processor, num_views=3, num_crops=3)
    sample = clips[1]
    path = table[1]["video"]["path"]
    expected = video_processor(path, return_tensors="pt", sampling="dense", num_views=3, num_crops=3)
    assert sample["pixel_values_videos"].shape == (9, 4, 3, 32, 32)
    assert torch.equal(sample["pixel_values_videos"], expected["pixel_values_videos"])


def test_in_evaluation_nothing_is_replaced(damaged, video_processor):
    clips = EvaluationClips(damaged, video_processor=video_processor, num_views=2)
    batch = collate_clips([clips[row] for row in range(8)])
    assert batch["labels"].tolist() == [0, -100, 2, 3, -100, 5, 6, 7]
    assert batch["pixel_values_videos"].shape == (16, 4, 3, 32, 32)
    assert not batch["pixel_values_videos"].view(8, -1)[[1, 4]].any()
    assert [failure.row for failure in batch["decode_failures"]] == [1, 4]
    assert [Path(name).stem for name in batch["video_names"]][4] == "gone"


@pytest.mark.parametrize(
    "options",
    [
        {"crop_size": {"height": 16, "width": 16}},
        {"crop_size": {"height": 16, "width": 24}},
        {"crop_size": 16, "size": {"shortest_edge": 16}},
        {"num_frames": 2},
        {"data_format": "channels_last"},
        {"cropping": "random", "crop_size": {"height": 16, "width": 16}},
        {"do_center_crop": False, "size": {"height": 20, "width": 28}},
    ],
    ids=str,
)
def test_in_evaluation_a_video_that_cannot_be_decoded_has_the_shape_of_the_others(damaged, video_processor, options):
    clips = EvaluationClips(damaged, video_processor=video_processor, num_views=2, video_options=options)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    broken = clips[1]["pixel_values_videos"]
    assert torch.equal(torch.get_rng_state(), before), "no random number is drawn for it"
    assert broken.shape == clips[0]["pixel_values_videos"].shape
    assert not broken.any()


def test_a_training_clip_is_one_view_and_crop_whatever_the_processor_makes_elsewhere(table):
    processor = FrosterVideoProcessor(num_frames=4, crop_size={"height": 32, "width": 32}, num_views=3, num_crops=3)
    assert TrainingClips(table, video_processor=processor, seed=1)[0, 0]["pixel_values_videos"].shape[0] == 1


def test_rows_that_embed_their_video_are_decoded_too(table, video_processor, video_folder):
    from datasets import Dataset

    from froster_hf.data.video_table import video_features

    data = (video_folder / "juggling" / "a.mp4").read_bytes()
    features = video_features(["juggling"])
    embedded = Dataset.from_dict({"video": [data], "label": [0]}, features=features)
    from_file = EvaluationClips(table, video_processor=video_processor)[4]
    from_bytes = EvaluationClips(embedded, video_processor=video_processor)[0]
    assert torch.equal(from_file["pixel_values_videos"], from_bytes["pixel_values_videos"])
