"""What training leaves behind: checkpoints to resume from, models for inference, and no secret in either."""

import pickle

import pytest
import torch
from safetensors.torch import load_file
from transformers import pipeline

from froster_hf import FrosterForVideoClassification
from froster_hf.training import FrosterTrainer, FrosterTrainingArguments
from tests.fixtures.tiny import tiny_model, tiny_processor
from tests.fixtures.videos import VIDEO_KINDS, render_video
from tests.training.tiny import LABELS, tiny_trainer

CLIPS = torch.randint(0, 255, (6, 4, 3, 32, 32), generator=torch.Generator().manual_seed(0)).float() / 128 - 1


class Clips(torch.utils.data.Dataset):
    def __len__(self):
        return len(CLIPS)

    def __getitem__(self, index):
        return {"pixel_values_videos": CLIPS[index], "labels": index % len(LABELS)}


def trainer_with_processor(folder, **fields) -> FrosterTrainer:
    args = FrosterTrainingArguments(
        output_dir=str(folder),
        max_steps=2,
        per_device_train_batch_size=3,
        learning_rate=1e-3,
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        **{"save_strategy": "no", **fields},
    )
    processor = tiny_processor("froster")
    return FrosterTrainer(tiny_model(), args, train_dataset=Clips(), processing_class=processor, labels=LABELS)


@pytest.mark.parametrize("trained", ["all", "lora"])
def test_the_saved_model_knows_its_labels_and_nothing_of_the_training(tmp_path, trained):
    trainer = trainer_with_processor(tmp_path / "run", trained_parameters=trained)
    trainer.train()
    trainer.save_model(str(tmp_path / "saved"))

    saved = FrosterForVideoClassification.from_pretrained(tmp_path / "saved")
    assert list(saved.config.id2label.values()) == list(LABELS)
    names = set(load_file(tmp_path / "saved" / "model.safetensors"))
    assert names == {name for name, _ in tiny_model().named_parameters()} | {"label_embeds"}

    # Its labels are those of all 29 templates under the trained weights.
    encoded = trainer.processing_class.encode_labels(LABELS)
    assert encoded["num_prompts"] == 29
    trainer.model.eval()
    with torch.no_grad():
        expected = trainer.model(CLIPS, **encoded).logits
        torch.testing.assert_close(saved(CLIPS).logits, expected, rtol=0, atol=1e-4)
    # The model that goes on training keeps none: they hold for these weights only.
    assert trainer.model.config.id2label == {}
    assert trainer.model.label_embeds.shape[0] == 0


def test_the_saved_folder_works_in_the_video_classification_pipeline(tmp_path):
    trainer = trainer_with_processor(tmp_path / "run")
    trainer.train()
    trainer.save_model(str(tmp_path / "saved"))
    video = render_video(tmp_path / "clip.mp4", VIDEO_KINDS["h264_mp4"])
    classify = pipeline("video-classification", model=str(tmp_path / "saved"), device="cpu")
    assert {score["label"] for score in classify(str(video), top_k=3)} == set(LABELS)


def test_checkpoints_hold_the_projectors(tmp_path):
    trainer = trainer_with_processor(tmp_path, save_strategy="steps", save_steps=1)
    trainer.train()
    names = set(load_file(tmp_path / "checkpoint-1" / "model.safetensors"))
    assert any("distillation_projectors.text" in name for name in names)
    assert "label_embeds" not in names


@pytest.mark.parametrize("fields", [{}, {"trained_parameters": "lora"}, {"distillation": "projector"}])
def test_a_resumed_run_ends_with_the_same_weights(tmp_path, fields):
    options = {"save_strategy": "steps", "save_steps": 1, "max_steps": 3, "optim": "sgd", **fields}
    whole = tiny_trainer(tmp_path / "whole", **options)
    whole.train()
    begun = tiny_trainer(tmp_path / "parts", **options)
    begun.train()
    resumed = tiny_trainer(tmp_path / "parts", **options)
    resumed.train(resume_from_checkpoint=str(tmp_path / "parts" / "checkpoint-1"))
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], tensor), name


def test_no_token_is_in_any_file(tmp_path):
    secret = "hf_thisIsASecret"
    trainer = trainer_with_processor(tmp_path, hub_token=secret, save_strategy="steps", save_steps=1)
    trainer.train()
    trainer.save_model()
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert any(file.name == "training_args.bin" for file in files)
    assert [file.name for file in files if secret.encode() in file.read_bytes()] == []
    # The run itself still has it.
    assert trainer.args.hub_token == secret
    assert pickle.loads(pickle.dumps(trainer.args)).hub_token is None


def test_a_model_with_stored_labels_brings_them_to_the_training(tmp_path):
    model = tiny_model()
    model.set_labels(LABELS, text_embeds=torch.randn(len(LABELS), model.config.projection_dim))
    trainer = FrosterTrainer(
        model,
        FrosterTrainingArguments(output_dir=str(tmp_path), report_to="none", use_cpu=True),
        processing_class=tiny_processor(),
    )
    assert trainer.texts_of(None).prompts.labels == LABELS
    # Embeddings of other weights must not end up in a checkpoint.
    assert model.label_embeds.shape[0] == 0
