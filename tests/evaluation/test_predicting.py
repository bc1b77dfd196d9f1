import hashlib
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset

from froster_hf import FrosterForVideoClassification, machine_memory
from froster_hf.data import read_hmdb51
from froster_hf.data.video_table import label_array, label_names, video_features
from froster_hf.evaluation import PredictionMismatchError, predict, predicting, warn_of_leaks
from froster_hf.evaluation.predicting import prompts_fingerprint
from froster_hf.processing import processing_froster
from tests.fixtures.tiny import tiny_model, tiny_processor

OPTIONS = {"num_views": 2, "video_options": {"frame_stride": 2}}


@pytest.fixture(scope="module")
def table(hmdb51_data):
    return read_hmdb51(hmdb51_data.root, annotations=hmdb51_data.annotations, split="test")


@pytest.fixture(scope="module")
def logits(table, tmp_path_factory):
    return predict(
        tiny_model(), table, processor=tiny_processor(), output_dir=tmp_path_factory.mktemp("one"), **OPTIONS
    )[0]


def test_logits_are_the_model_s_own_for_every_view(table, logits):
    model, processor = tiny_model(), tiny_processor()
    encoded = processor.encode_labels(label_names(table))
    for row in (0, 5, 11):
        path = table[row]["video"]["path"]
        pixels = processor.video_processor(path, sampling="dense", num_views=2, frame_stride=2, return_tensors="pt")
        with torch.no_grad():
            expected = model(
                pixel_values_videos=pixels["pixel_values_videos"],
                input_ids=encoded["input_ids"],
                num_prompts=encoded["num_prompts"],
            ).logits
        assert np.allclose(logits[row], expected.numpy(), atol=1e-5)
    assert logits.shape == (12, 2, 4)
    assert np.ptp(logits[:, :, 0]) > 1e-3, "the clips differ"


def test_a_model_that_was_moved_can_be_trained_afterwards(table, tmp_path, monkeypatch):
    # As moving to a GPU does: the parameters are made anew.
    monkeypatch.setattr(FrosterForVideoClassification, "to", lambda model, device: model._apply(torch.clone))
    model = tiny_model().train()
    predict(model, table, processor=tiny_processor(), output_dir=tmp_path, **OPTIONS)
    assert model.training
    assert not any(parameter.is_inference() for parameter in model.parameters())


def test_frames_of_another_size_than_the_model_sees_are_refused_before_a_video_is_read(table, tmp_path):
    processor = tiny_processor(do_center_crop=False, size={"height": 512, "width": 512})
    with pytest.raises(ValueError, match="makes frames of 512 x 512 pixels, and the model sees 32 x 32"):
        predict(tiny_model(), table, processor=processor, output_dir=tmp_path, **OPTIONS)
    assert not list(tmp_path.iterdir())


def test_a_rerun_computes_nothing(table, logits, tmp_path):
    first, _ = predict(tiny_model(), table, processor=tiny_processor(), output_dir=tmp_path, **OPTIONS)
    model = tiny_model()
    model.forward = None
    again, _ = predict(model, table, processor=tiny_processor(), output_dir=tmp_path, **OPTIONS)
    assert np.array_equal(first, again)
    assert np.array_equal(first, logits)


def test_half_written_batches_are_computed_again_in_the_same_company(table, logits, tmp_path):
    options = {**OPTIONS, "batch_size": 5}
    first, _ = predict(tiny_model(), table, processor=tiny_processor(), output_dir=tmp_path, **options)
    file = tmp_path / "predictions.0.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:8]) + lines[8][:30])
    again, _ = predict(tiny_model(), table, processor=tiny_processor(), output_dir=tmp_path, **options)
    assert np.array_equal(first, again)
    assert np.allclose(first, logits, atol=1e-5), "batches of another size differ by rounding only"


def test_other_weights_labels_or_views_in_the_same_folder_are_refused(table, tmp_path):
    predict(tiny_model(), table, processor=tiny_processor(), output_dir=tmp_path, **OPTIONS)
    with pytest.raises(PredictionMismatchError, match="model: stored"):
        predict(tiny_model(seed=1), table, processor=tiny_processor(), output_dir=tmp_path, **OPTIONS)
    with pytest.raises(PredictionMismatchError, match="prompts: stored"):
        predict(tiny_model(), table, processor=tiny_processor("none"), output_dir=tmp_path, **OPTIONS)
    with pytest.raises(PredictionMismatchError, match="num_views: stored 2, now 3"):
        predict(tiny_model(), table, processor=tiny_processor(), output_dir=tmp_path, **{**OPTIONS, "num_views": 3})
    with pytest.raises(PredictionMismatchError, match=r"data: stored"):
        predict(tiny_model(), table.select(range(6)), processor=tiny_processor(), output_dir=tmp_path, **OPTIONS)


def test_more_scores_than_are_held_at_once_are_refused_before_a_video_is_read(table, tmp_path, monkeypatch):
    monkeypatch.setattr(predicting, "MOST_SCORES", 12 * 2 * 4 - 1)
    with pytest.raises(ValueError, match="12 videos x 2 views x 4 labels are 96 numbers; at most 95 are measured"):
        predict(tiny_model(), table, processor=tiny_processor(), output_dir=tmp_path / "out", **OPTIONS)
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(predicting, "MOST_SCORES", 12 * 2 * 4)
    predict(tiny_model(), table, processor=tiny_processor(), output_dir=tmp_path / "out", **OPTIONS)


def test_batches_beyond_the_memory_that_is_left_are_refused_before_a_video_is_read(table, tmp_path, monkeypatch):
    monkeypatch.setattr(machine_memory, "free_bytes", lambda: 100e6)
    options = {**OPTIONS, "video_options": {"num_frames": 512}, "batch_size": 8}
    with pytest.raises(ValueError, match=r"8 videos at once, 12 in memory, of 1,024 frames each.*--batch-size"):
        predict(tiny_model(), table, processor=tiny_processor(), output_dir=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_prompts_of_a_long_list_are_held_a_chunk_at_a_time(table, monkeypatch):
    monkeypatch.setattr(processing_froster, "PROMPTS_PER_CHUNK", 100)
    processor, labels = tiny_processor(["a video of {}.", "{}"]), [f"{number} {'a' * 40}" for number in range(2000)]
    encoded = processor.encode_sentences(labels)
    tracemalloc.start()
    try:
        fingerprint = prompts_fingerprint(processor, labels)
        warn_of_leaks(processor.iter_prompts(labels), table)
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()
    # As of all at once, padded to the longest.
    stated = "\n".join(labels).encode() + b"2" + encoded["input_ids"].numpy().tobytes()
    assert fingerprint == hashlib.sha256(stated).hexdigest()


@pytest.mark.parametrize("batch_size", [0, -1, "8", 0.5])
def test_a_batch_of_no_clips_is_refused(table, tmp_path, batch_size):
    message = f"`batch_size` is {batch_size!r}; it must be a whole number of at least 1"
    with pytest.raises((TypeError, ValueError), match=message):
        predict(
            tiny_model(),
            table,
            processor=tiny_processor(),
            output_dir=tmp_path,
            **{**OPTIONS, "batch_size": batch_size},
        )


def test_file_and_folder_names_change_no_prediction(table, logits, tmp_path):
    """The leak check by experiment: the same clips under names that say nothing, and under names that lie."""
    for naming in ("{row}.avi", "wrong class {other}/wave_{row}.avi"):
        paths = []
        for row, label in enumerate(label_array(table)):
            path = tmp_path / naming.format(row=row, other=(label + 1) % 4)
            path.parent.mkdir(exist_ok=True)
            paths.append(str(shutil.copy(table[row]["video"]["path"], path)))
        renamed = Dataset.from_dict(
            {"video": paths, "label": label_array(table)}, features=video_features(label_names(table))
        )
        output_dir = tmp_path / f"predictions {len(naming)}"
        renamed_logits, _ = predict(
            tiny_model(), renamed, processor=tiny_processor(), output_dir=output_dir, **OPTIONS
        )
        assert np.array_equal(renamed_logits, logits)


def test_a_clip_that_cannot_be_decoded_is_named_and_has_no_logits(table, logits, tmp_path, caplog):
    paths = [row["path"] for row in table["video"]]
    (tmp_path / "broken.avi").write_bytes(Path(paths[3]).read_bytes()[:200])
    paths[3] = str(tmp_path / "broken.avi")
    damaged = Dataset.from_dict({"video": paths, "label": table["label"][:]}, features=table.features)
    found, _ = predict(tiny_model(), damaged, processor=tiny_processor(), output_dir=tmp_path / "out", **OPTIONS)
    assert np.isnan(found[3]).all()
    assert np.array_equal(np.delete(found, 3, 0), np.delete(logits, 3, 0)), "its neighbors are not touched"
    assert "broken.avi" in caplog.text
    assert '"error": "' in (tmp_path / "out" / "predictions.0.jsonl").read_text()
