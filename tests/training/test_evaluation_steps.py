"""Evaluation in the Trainer: all templates, a label list a data set, clips of a video averaged."""

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Video
from transformers import EvalPrediction, pipeline

from froster_hf.data import read_video_folder
from froster_hf.data.video_table import label_array
from froster_hf.evaluation import compute_metrics
from froster_hf.evaluation.metrics import top_k_accuracy
from froster_hf.shapes import all_classes, write_moving_shapes
from froster_hf.training import FrosterTrainer, FrosterTrainingArguments
from froster_hf.training.trainer import mean_log_probabilities
from tests.fixtures.tiny import tiny_model, tiny_processor
from tests.fixtures.videos import render_classes
from tests.training.tiny import Arrays, tiny_trainer


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two folders of videos with different classes."""
    names = ("base/juggling", "base/rowing", "novel/diving", "novel/surfing", "novel/yoga")
    return render_classes(tmp_path_factory.mktemp("videos"), dict.fromkeys(names, 2))


def video_trainer(tmp_path, folders, **fields) -> FrosterTrainer:
    base = read_video_folder(folders / "base")
    args = FrosterTrainingArguments(
        output_dir=str(tmp_path),
        max_steps=2,
        per_device_train_batch_size=2,
        per_device_eval_batch_size=2,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        **fields,
    )
    return FrosterTrainer(
        tiny_model(),
        args,
        train_dataset=base,
        eval_dataset={"base": base, "novel": read_video_folder(folders / "novel")},
        processing_class=tiny_processor("froster"),
    )


def test_videos_train_and_every_set_is_measured_against_its_own_labels(tmp_path, folders):
    trainer = video_trainer(tmp_path, folders)
    trainer.train()
    metrics = trainer.evaluate()
    assert {"eval_base_top1", "eval_novel_top1"} <= set(metrics)
    prediction = trainer.predict(read_video_folder(folders / "novel"))
    assert prediction.predictions.shape == (6, 3)
    assert trainer.texts_of(["diving", "surfing", "yoga"]) is trainer.texts_of(("diving", "surfing", "yoga"))


def test_predictions_are_those_of_the_model_over_all_templates(tmp_path, folders):
    trainer = video_trainer(tmp_path, folders, eval_video_options={"num_views": 3})
    prediction = trainer.predict(trainer.train_dataset.dataset)
    processor, model = trainer.processing_class, trainer.model.eval()
    clips = processor.video_processor(str(folders / "base" / "juggling" / "0.mp4"), num_views=3, return_tensors="pt")
    with torch.no_grad():
        logits = model(**clips, **processor.encode_labels(["juggling", "rowing"])).logits
    expected = logits.softmax(dim=-1).mean(dim=0).log()
    torch.testing.assert_close(torch.tensor(prediction.predictions[0]), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("num_views", [1, 3])
def test_videos_without_labels_are_predicted_as_those_with_labels(tmp_path, folders, num_views):
    trainer = video_trainer(tmp_path, folders, eval_video_options={"num_views": num_views})
    table = read_video_folder(folders / "base")
    labeled, unlabeled = trainer.predict(table), trainer.predict(table.remove_columns("label"))
    np.testing.assert_allclose(unlabeled.predictions, labeled.predictions, rtol=0, atol=1e-6)
    assert unlabeled.label_ids is None
    assert {"test_top1", "test_loss"} <= set(labeled.metrics)
    assert not {"test_top1", "test_loss"} & set(unlabeled.metrics)


def test_clips_without_labels_are_predicted_as_those_with_labels(tmp_path):
    class Unlabeled(Arrays):
        def __getitem__(self, index):
            return {"pixel_values_videos": super().__getitem__(index)["pixel_values_videos"]}

    trainer = tiny_trainer(tmp_path)
    labeled, unlabeled = trainer.predict(Arrays()), trainer.predict(Unlabeled())
    np.testing.assert_allclose(unlabeled.predictions, labeled.predictions, rtol=0, atol=1e-6)
    assert unlabeled.label_ids is None
    # Without labels, nothing is measured and nothing trained.
    with pytest.raises(ValueError, match="`labels` or `label` are needed"):
        trainer.evaluate(Unlabeled())


def test_predictions_of_a_broken_video_without_a_label_are_nan_and_said(tmp_path, folders, caplog):
    table = read_video_folder(folders / "base").remove_columns("label")
    (tmp_path / "0.mp4").write_bytes(b"no video")
    rows = [{"path": str(tmp_path / "0.mp4"), "bytes": None}, *(row["video"] for row in table)]
    broken = type(table).from_dict({"video": rows}, features=table.features)
    trainer = video_trainer(tmp_path / "run", folders)
    predictions = trainer.predict(broken).predictions
    assert np.isnan(predictions[0]).all()
    np.testing.assert_allclose(predictions[1:], trainer.predict(table).predictions, rtol=0, atol=1e-6)
    assert "Its predictions are NaN: " in caplog.text
    with pytest.raises(ValueError, match="a table of videos needs `video` and `label`"):
        trainer.evaluate(broken)


def test_a_broken_video_in_evaluation_is_counted_as_wrong(tmp_path, folders):
    (folders / "broken" / "juggling").mkdir(parents=True)
    (folders / "broken" / "juggling" / "0.mp4").write_bytes(b"no video")
    trainer = video_trainer(tmp_path, folders)
    metrics = trainer.evaluate(read_video_folder(folders / "broken"))
    assert metrics["eval_top1"] == 0
    # No loss is not the least one, by which a best checkpoint could be chosen.
    assert "eval_loss" not in metrics


def test_a_broken_video_in_evaluation_is_said_and_lowers_no_loss(tmp_path, folders, caplog):
    table = read_video_folder(folders / "base")
    (tmp_path / "0.mp4").write_bytes(b"no video")
    broken = {"video": {"path": str(tmp_path / "0.mp4"), "bytes": None}, "label": 0}
    trainer = video_trainer(tmp_path / "run", folders)
    # The last batch is of such videos alone.
    mixed = trainer.evaluate(type(table).from_list([*table, broken, broken], features=table.features))
    assert caplog.text.count("It counts as wrong: ") == 2
    whole = trainer.evaluate(table)
    assert mixed["eval_loss"] == pytest.approx(whole["eval_loss"], abs=1e-6)
    assert mixed["eval_top1"] == pytest.approx(whole["eval_top1"] * len(table) / (len(table) + 2))


def test_a_broken_video_in_training_is_replaced_and_named(tmp_path, folders):
    root = tmp_path / "data"
    for label in ("juggling", "rowing"):
        (root / label).mkdir(parents=True)
        (root / label / "0.mp4").write_bytes((folders / "base" / "rowing" / "0.mp4").read_bytes())
    (root / "rowing" / "1.mp4").write_bytes(b"no video")
    args = {"max_undecodable_share": 0.5, "num_train_epochs": 1}
    trainer = video_trainer(tmp_path / "run", folders, **args)
    trainer.train_dataset = trainer._training_clips(read_video_folder(root))
    trainer.train()
    (report,) = (tmp_path / "run").glob("decode_failures.*.jsonl")
    assert "rowing/1.mp4" in report.read_text()


def test_accuracy_in_percent():
    logits = np.array([[3.0, 2, 1, 0, 0, 0], [0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5], [1, 0, 0, 0, 0, 0]])
    metrics = compute_metrics(EvalPrediction(predictions=logits, label_ids=np.array([0, 4, 0, -100])))
    assert metrics == {"top1": 25.0, "top5": 50.0}


def test_accuracy_is_the_evaluations_own():
    """Rows of NaN and equal scores are wrong, whatever the class."""
    logits = np.array([[np.nan] * 3, [1.0, 1, 0], [0, 0, 0], [2, 1, 0], [np.inf, 0, 0]])
    labels = np.array([0, 0, 2, 0, 0])
    metrics = compute_metrics(EvalPrediction(predictions=logits, label_ids=labels))
    assert metrics["top1"] == 20.0
    assert metrics["top1"] == 100 * top_k_accuracy(logits, labels, k=1)


def test_clips_of_a_video_are_averaged_as_probabilities():
    logits = torch.randn(6, 5)
    expected = logits.softmax(-1).unflatten(0, (2, 3)).mean(1)
    torch.testing.assert_close(mean_log_probabilities(logits, 2).exp(), expected)


def test_texts_that_only_the_models_own_forward_may_encode_give_the_same_numbers(tmp_path, monkeypatch):
    """As with FSDP and DeepSpeed, whose parameters are whole inside of the forward pass only."""
    fields = {"eval_dataset": Arrays(4), "model_fields": {"temporal_module": "st_adapter"}}
    fields |= {"trained_parameters": "adapters", "text_chunk_size": 5}
    expected = tiny_trainer(tmp_path, **fields)
    expected.train()
    monkeypatch.setattr(FrosterTrainer, "_splits_parameters", True)
    trainer = tiny_trainer(tmp_path, **fields)
    assert not trainer.teacher.shared
    assert trainer.texts_of(None).frozen_embeds is None
    trainer.train()
    losses = [[entry["loss"] for entry in run.state.log_history if "loss" in entry] for run in (trainer, expected)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    for name in ("eval_loss", "eval_top1", "eval_teacher_cosine_video", "eval_teacher_cosine_text"):
        assert trainer.evaluate()[name] == pytest.approx(expected.evaluate()[name], abs=1e-5)


def test_long_label_lists_have_the_same_gradients_in_chunks(tmp_path):
    gradients = []
    for chunk_size in (None, 2, 64):
        trainer = tiny_trainer(tmp_path, train_dataset=Arrays(4), text_chunk_size=chunk_size)
        # On a CPU texts share their beginnings, fewer than a chunk too.
        assert trainer.texts_of(None).for_all_labels([0]).student_inputs["text_chunk_size"] == chunk_size
        batch = trainer._prepare_inputs(trainer.data_collator([trainer.train_dataset[index] for index in range(4)]))
        loss = trainer.compute_loss(trainer.model, batch)
        loss.backward()
        gradients.append({name: parameter.grad for name, parameter in trainer.model.named_parameters()})
    for name, gradient in gradients[0].items():
        for chunked in gradients[1:]:
            torch.testing.assert_close(chunked[name], gradient, rtol=0, atol=1e-5)


def moving_shapes(folder):
    classes = all_classes()[::300][:3]
    table = write_moving_shapes(folder, classes, clips_per_class=4, seed=0, resolution=64)
    table = table.cast_column("label", ClassLabel(names=["spin", "slide", "grow"]))  # the tokenizer spells
    return table.cast_column("video", Video(decode=False))


@pytest.mark.parametrize(
    ("processor_options", "eval_options"),
    [
        ({}, None),
        ({"sampling": "dense", "frame_stride": 2}, None),
        ({}, {"sampling": "dense", "frame_stride": 2, "num_views": 2}),
        ({"num_views": 3}, None),
    ],
)
def test_what_is_measured_while_training_is_what_the_saved_model_does(tmp_path, processor_options, eval_options):
    """To the last clip: the accuracy that is printed, and every prediction, are those of the pipeline."""
    table = moving_shapes(tmp_path / "videos")
    names = table.features["label"].names
    trainer = FrosterTrainer(
        tiny_model(),
        FrosterTrainingArguments(
            output_dir=str(tmp_path / "run"),
            max_steps=3,
            per_device_train_batch_size=4,
            per_device_eval_batch_size=5,
            learning_rate=1e-3,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
            eval_video_options=eval_options,
        ),
        train_dataset=table,
        eval_dataset=table,
        processing_class=tiny_processor("froster", **processor_options),
        labels={name: f"it can {name}" if number else None for number, name in enumerate(names)},
    )
    trainer.train()
    printed, predicted = trainer.evaluate()["eval_top1"], trainer.predict(table).predictions
    trainer.save_model(str(tmp_path / "saved"))

    classify = pipeline("zero-shot-video-classification", model=str(tmp_path / "saved"), device="cpu")
    for labels in (None, names):  # the stored labels, and the same names written into prompts again
        answers = list(classify(table["video"], candidate_labels=labels))
        scores = np.array([[{a["label"]: a["score"] for a in answer}[name] for name in names] for answer in answers])
        softmax = np.exp(predicted) / np.exp(predicted).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(scores, softmax, atol=1e-5)
        assert scores.argmax(axis=1).tolist() == predicted.argmax(axis=1).tolist()
        assert 100 * top_k_accuracy(scores, label_array(table), k=1) == printed
