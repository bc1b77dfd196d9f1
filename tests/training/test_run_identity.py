"""A checkpoint goes on only in the run that it belongs to."""

import dataclasses
import json
import re
import shutil

import pytest
import torch
from datasets import Dataset

from froster_hf import FrosterForVideoClassification
from froster_hf.data import TrainingClips
from froster_hf.data.video_table import video_features
from froster_hf.processing.video_processing_froster import FrosterVideoProcessor
from froster_hf.training import FrosterTrainingArguments, FrozenTeacher, LabelPrompts
from froster_hf.training.checkpointing import ResumeError
from froster_hf.training.run_identity import argument_identity, data_identity, differing, identity_of
from froster_hf.training.whole_folders import seal
from tests.modeling.tiny import END, tiny_model, tiny_texts
from tests.training.tiny import LABELS, TEMPLATES, Arrays, label_prompts, tiny_trainer


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    tiny_trainer(folder, save_strategy="steps", save_steps=1).train()
    return folder


def resume(run, **fields):
    tiny_trainer(run, **fields).train(resume_from_checkpoint=str(run / "checkpoint-1"))


def test_a_trainer_built_from_a_checkpoints_model_is_refused(run):
    model = FrosterForVideoClassification.from_pretrained(run / "checkpoint-1")
    with pytest.raises(ResumeError, match=r"another run: teacher was .*from the model before the training"):
        resume(run, model=model)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"data_seed": 7}, "data_seed was 42 and is 7 now"),
        ({"learning_rate": 5e-4}, "learning_rate was 0.001 and is 0.0005 now"),
        ({"weight_decay": 0.5}, "weight_decay was 0.01 and is 0.5 now"),
        ({"lr_scheduler_type": "linear"}, "lr_scheduler_type was"),
        ({"warmup_steps": 1}, "warmup_steps was 0 and is 1 now"),
        ({"per_device_train_batch_size": 8}, "clips per step was 4 and is 8 now"),
        ({"gradient_accumulation_steps": 2}, "clips per step was 4 and is 8 now"),
        ({"max_steps": 9}, 'length was "2 steps" and is "9 steps" now'),
        ({"max_steps": -1, "num_train_epochs": 3}, 'length was "2 steps" and is "3 epochs" now'),
        ({"distillation_weight": 1.0}, "distillation_weight was 2.0 and is 1.0 now"),
        ({"distillation": "none"}, 'distillation was "residual" and is "none" now'),
        ({"training_prompts": "all"}, "training_prompts was"),
        ({"train_video_options": {"flip_probability": 0.0}}, "train_video_options was null and is"),
        ({"bf16": True}, "bf16 was false and is true now"),
        ({"optim": "sgd"}, "optim was"),
        ({"trained_parameters": "vision"}, "trained_parameters was"),
        ({"model_fields": {"temporal_radius": 2}}, "temporal_radius was 1 and is 2 now"),
        ({"train_dataset": Arrays(12)}, "data set length was 8 and is 12 now"),
    ],
)
def test_another_setting_that_decides_the_weights_is_refused_and_named(run, fields, message):
    with pytest.raises(ResumeError, match=re.escape(message)):
        resume(run, **fields)


def test_all_differences_are_told_at_once_and_nothing_is_trained(run):
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    with pytest.raises(ResumeError) as caught:
        resume(run, learning_rate=1e-2, max_grad_norm=5.0)
    assert "learning_rate was" in str(caught.value)
    assert "max_grad_norm was" in str(caught.value)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_what_decides_nothing_may_change(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    trainer = tiny_trainer(
        tmp_path / "run",
        # As many clips per step, in two passes.
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        **{"save_strategy": "steps", "save_steps": 1, "save_total_limit": 5, "logging_steps": 7, "run_name": "x"},
        **{"dataloader_num_workers": 1, "max_undecodable_share": 0.5, "text_chunk_size": 2, "eval_video_options": {}},
    )
    trainer.train(resume_from_checkpoint=True)
    assert trainer.state.global_step == 2


def test_the_teachers_precision_is_compared_as_what_it_comes_to(run, tmp_path):
    assert (
        json.loads((run / "checkpoint-1" / "run_identity.json").read_text())["arguments"]["teacher_dtype"] == "float32"
    )
    shutil.copytree(run, tmp_path / "run")
    resume(tmp_path / "run", teacher_dtype="float32")
    message = 'teacher_dtype was "float32" and is "float32, of frames bfloat16" now'
    with pytest.raises(ResumeError, match=re.escape(message)):
        resume(run, bf16=True)
    with pytest.raises(ResumeError, match="bf16 was false and is true now") as caught:
        resume(run, bf16=True, teacher_dtype="float32")
    assert "teacher_dtype" not in str(caught.value)


def test_with_the_clips_of_a_batch_as_negatives_accumulated_batches_are_another_run(tmp_path):
    fields = {"objective": "symmetric_kl", "training_prompts": "random", "save_strategy": "steps", "save_steps": 1}
    tiny_trainer(tmp_path, **fields).train()
    with pytest.raises(ResumeError, match="clips at once was 4 and is 2 now"):
        resume(tmp_path, per_device_train_batch_size=2, gradient_accumulation_steps=2, **fields)


def test_a_checkpoint_that_does_not_say_what_it_was_started_with_is_refused(run, tmp_path):
    checkpoint = shutil.copytree(run / "checkpoint-1", tmp_path / "checkpoint-1")
    (checkpoint / "run_identity.json").write_text('{"teacher": "none"}')
    (checkpoint / "manifest.json").unlink()
    seal(checkpoint)
    with pytest.raises(ResumeError, match="does not say which labels or templates, data, model, arguments"):
        resume(tmp_path)


def test_another_table_and_other_pixels_are_other_data(tmp_path):
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).write_bytes(name.encode() * 9)
    options = {"size": {"shortest_edge": 8}, "crop_size": {"height": 8, "width": 8}}

    def clips(*, names=("a.mp4", "b.mp4"), labels=(0, 1), video_options=None, **changes):
        rows = {"video": [str(tmp_path / name) for name in names], "label": list(labels)}
        table = Dataset.from_dict(rows, features=video_features(["x", "y"]))
        processor = FrosterVideoProcessor(**{**options, **changes})
        return TrainingClips(table, video_processor=processor, seed=0, video_options=video_options)

    first = data_identity(clips())
    assert data_identity(clips()) == first
    for others in (
        clips(names=("b.mp4", "a.mp4")),
        clips(labels=(1, 0)),
        clips(video_options={"flip_probability": 0.0}),
        clips(frame_stride=4),
    ):
        assert differing(first, data_identity(others))
    (tmp_path / "b.mp4").write_bytes(b"replaced")
    assert differing(first, data_identity(clips()))


def test_a_run_that_shares_its_backbone_with_the_teacher_resumes(tmp_path):
    fields = {
        "model_fields": {"temporal_module": "st_adapter"},
        "trained_parameters": "adapters",
        "save_strategy": "steps",
        "save_steps": 1,
    }
    first = tiny_trainer(tmp_path, **fields)
    assert first.teacher.shared
    first.train()
    again = tiny_trainer(tmp_path, **fields)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
    for name, tensor in first.student.state_dict().items():
        assert torch.equal(again.student.state_dict()[name], tensor), name


def test_every_part_of_the_identity_counts(tmp_path):
    trainer = tiny_trainer(tmp_path)
    parts = {"args": trainer.args, "model": trainer.student, "train_dataset": trainer.train_dataset}
    prompts, teacher = label_prompts(), FrozenTeacher.from_student(tiny_model())
    identity = identity_of(teacher=teacher, prompts=prompts, seed=0, **parts)
    again = FrozenTeacher.from_student(tiny_model())
    assert identity_of(teacher=again, prompts=prompts, seed=0, **parts) == identity

    with torch.no_grad():
        teacher.model.visual_projection.weight[3, 3] += 1e-3
    other_texts = LabelPrompts.from_tokens(LABELS, TEMPLATES, tiny_texts(12).flip(0), end_token=END)
    for name, other in {
        "teacher": identity_of(teacher=teacher, prompts=prompts, seed=0, **parts),
        "labels or templates": identity_of(teacher=None, prompts=other_texts, seed=0, **parts),
        "arguments": identity_of(teacher=teacher, prompts=prompts, seed=1, **parts),
    }.items():
        assert other[name] != identity[name]


def test_every_argument_decides_unless_it_is_known_not_to():
    names = {entry.name for entry in dataclasses.fields(FrosterTrainingArguments)}
    free = {name for name in names if name not in argument_identity(FrosterTrainingArguments("x", use_cpu=True))}
    assert {"objective", "optim", "seed", "dataloader_drop_last", "tf32", "fp16", "lora_rank"} <= names - free
    assert {"logging_steps", "save_steps", "eval_steps", "dataloader_num_workers", "output_dir", "hub_token"} <= free
