"""From a plain dual encoder of every backbone to scores, a trained model, maps and an exported folder."""

import json

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset
from transformers import pipeline

from froster_hf import FrosterForVideoClassification
from froster_hf.evaluation import attention_rollout, gradient_map
from froster_hf.hub import export_checkpoint
from froster_hf.processing.processing_froster import FrosterProcessor
from froster_hf.training import FrosterTrainer, FrosterTrainingArguments
from tests.fixtures.dual_encoders import LABELS, SIZE, TEXT_LENGTH, WIDTH, tiny_pixels

TASK = "zero-shot-video-classification"
VIDEO = np.random.default_rng(0).integers(0, 256, (8, 40, 56, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def checkpoint(dual_encoder, tmp_path_factory):
    """A FROSTER checkpoint of the dual encoder."""
    saved = tmp_path_factory.mktemp("checkpoints") / "model"
    build_model(dual_encoder).save_pretrained(saved)
    build_processor(dual_encoder).save_pretrained(saved)
    return saved


def build_model(folder, **fields):
    fields = {"temporal_module": "st_adapter", "num_frames": 4, **fields}
    return FrosterForVideoClassification.from_dual_encoder(folder, **fields).eval()


def build_processor(folder):
    templates = ["a video of {}.", "{}"]
    return FrosterProcessor.from_dual_encoder(folder, prompt_templates=templates, video_options={"num_frames": 4})


class Clips(Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, index):
        return {"pixel_values_videos": tiny_pixels(8)[index], "label": index % len(LABELS)}


def test_the_pipeline_takes_a_plain_dual_encoder_and_scores_as_it_does(dual_encoder):
    classify = pipeline(TASK, model=str(dual_encoder))
    answers = classify(VIDEO, candidate_labels=LABELS, templates="none", function_to_apply="none", num_frames=1)
    model, processor = build_model(dual_encoder, temporal_module="none"), build_processor(dual_encoder)
    texts = processor.encode_labels(LABELS, templates="none")["input_ids"]
    pixels = processor(videos=[VIDEO], num_frames=1, return_tensors="pt")["pixel_values_videos"]
    with torch.no_grad():
        logits = model(pixels, input_ids=texts).logits[0]
    found = {answer["label"]: answer["score"] for answer in answers}
    assert [found[label] for label in LABELS] == pytest.approx(logits.tolist(), abs=1e-5)


def test_several_labels_are_scored_each_by_siglips_own_sigmoid(backbone, checkpoint):
    classify = pipeline(TASK, model=str(checkpoint))
    if backbone != "siglip":
        with pytest.raises(ValueError, match="sigmoid"):
            classify(VIDEO, candidate_labels=LABELS, function_to_apply="sigmoid")
        return
    scores = classify(VIDEO, candidate_labels=LABELS, function_to_apply="sigmoid")
    logits = classify(VIDEO, candidate_labels=LABELS, function_to_apply="none")
    assert [answer["score"] for answer in scores] == pytest.approx(
        torch.tensor([answer["score"] for answer in logits]).sigmoid().tolist()
    )


def test_two_steps_of_distillation_train_it(dual_encoder, tmp_path):
    model = build_model(dual_encoder)
    args = FrosterTrainingArguments(
        output_dir=str(tmp_path),
        max_steps=2,
        per_device_train_batch_size=4,
        logging_steps=1,
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
        learning_rate=1e-3,
        distillation="residual",
        save_strategy="no",
    )
    trainer = FrosterTrainer(
        model, args, train_dataset=Clips(), labels=LABELS, processing_class=build_processor(dual_encoder)
    )
    trainer.train()
    first, second = trainer.state.log_history[:2]
    # Student and teacher start alike.
    assert first["loss_distill_video"] == pytest.approx(0, abs=1e-6)
    assert first["loss_distill_text"] == pytest.approx(0, abs=1e-6)
    assert second["loss_distill_video"] > 1e-5
    assert np.isfinite(second["loss"])


@pytest.mark.parametrize("module", ["local_attention", "joint", "cross_frame"])
def test_predictions_are_explained(dual_encoder, module):
    model = build_model(dual_encoder, temporal_module=module)
    for relevance in (
        attention_rollout(model, tiny_pixels(1)),
        gradient_map(model, tiny_pixels(1), text_embeds=torch.randn(3, WIDTH), label_index=1),
    ):
        assert relevance.shape == (4, SIZE // 16, SIZE // 16)
        assert relevance.sum().item() == pytest.approx(1, abs=1e-5)


def test_an_exported_folder_has_both_towers_and_the_formula_between_them(backbone, checkpoint, tmp_path):
    exported = export_checkpoint(checkpoint, tmp_path / "out", labels=LABELS, towers=["onnx"])
    assert all(tower.max_difference < 1e-4 for tower in exported.towers)
    about = json.loads((tmp_path / "out" / "towers" / "towers.json").read_text())
    assert about["text_tower"]["input_ids"] == ["n", TEXT_LENGTH if backbone == "siglip" else f"L <= {TEXT_LENGTH}"]
    assert ("logit_bias" in about) == (backbone == "siglip")
    assert f"| backbone | {backbone} |" in (tmp_path / "out" / "README.md").read_text()
    answers = pipeline(TASK, model=str(tmp_path / "out"))(VIDEO)
    assert {answer["label"] for answer in answers} == set(LABELS)
