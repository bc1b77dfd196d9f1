"""The teacher is CLIP as the student began, outside of the student, and no second copy where that can be."""

import json
import re
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPModel, TrainerCallback

from froster_hf.checkpoint_files import CheckpointError
from froster_hf.settings import merge_sections
from froster_hf.training import FrozenTeacher
from froster_hf.training.checkpointing import ResumeError
from froster_hf.training.prompts import LabelTexts, PromptEmbeds
from froster_hf.training.teacher import AveragedTeacher, TeacherAveraging
from froster_hf.training.whole_folders import DamagedFolderError
from tests.modeling.tiny import (
    MODULES,
    TEXT,
    VISION,
    WIDTH,
    tiny_clip,
    tiny_clips,
    tiny_config,
    tiny_model,
    tiny_texts,
)
from tests.training.tiny import Arrays, label_prompts, tiny_trainer


@pytest.fixture
def clip_folder(tmp_path):
    tiny_clip().save_pretrained(tmp_path / "clip")
    return str(tmp_path / "clip")


@pytest.mark.parametrize("temporal_module", MODULES)
def test_the_teacher_of_a_student_is_the_clip_that_it_came_from(temporal_module, clip_folder):
    student = type(tiny_model()).from_clip(clip_folder, temporal_module=temporal_module, num_frames=4)
    teacher = FrozenTeacher.from_student(student)
    clip, clips, texts = tiny_clip(), tiny_clips(), tiny_texts()
    with torch.no_grad():
        frames = clip.get_image_features(clips.flatten(0, 1)).pooler_output
        embeds = clip.get_text_features(texts).pooler_output
    expected = torch.nn.functional.normalize(frames, dim=-1).unflatten(0, clips.shape[:2])
    torch.testing.assert_close(teacher.embed_frames(clips), expected, rtol=0, atol=1e-5)
    expected = torch.nn.functional.normalize(embeds, dim=-1)
    torch.testing.assert_close(teacher.embed_texts(texts, chunk_size=2), expected, rtol=0, atol=1e-5)


def test_a_checkpoint_as_teacher(clip_folder):
    from_folder = FrozenTeacher.from_dual_encoder(clip_folder)
    student = type(tiny_model()).from_clip(clip_folder)
    torch.testing.assert_close(
        from_folder.embed_frames(tiny_clips()), FrozenTeacher.from_student(student).embed_frames(tiny_clips())
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"text_config": {"vocab_size": 10**6}}, "describes a model of .* numbers, but the weights take"),
        ({"quantization_config": {"quant_method": "evil"}}, "is quantized by 'evil', which may run code"),
    ],
)
def test_a_checkpoint_that_somebody_else_made_is_checked_before_it_is_a_teacher(clip_folder, fields, message):
    file = Path(clip_folder) / "config.json"
    file.write_text(json.dumps(merge_sections(json.loads(file.read_text()), fields)))
    with pytest.raises(ValueError, match=message):
        FrozenTeacher.from_dual_encoder(clip_folder)


def test_a_copied_teacher_stays_as_the_student_began():
    student = tiny_model()
    teacher = FrozenTeacher.from_student(student)
    before = teacher.embed_frames(tiny_clips())
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(1.0)
    assert torch.equal(teacher.embed_frames(tiny_clips()), before)


def test_a_shared_teacher_owns_no_tensor():
    student = tiny_model(temporal_module="st_adapter").requires_grad_(False)
    teacher = FrozenTeacher.from_student(student, shared=True)
    own = {tensor.data_ptr() for tensor in (*student.parameters(), *student.buffers()) if tensor.numel()}
    tensors = [*teacher.model.parameters(), *teacher.model.buffers()]
    assert {tensor.data_ptr() for tensor in tensors} <= own
    # It goes where the student goes.
    student.to(torch.float64)
    assert {parameter.dtype for parameter in teacher.model.parameters()} == {torch.float64}


def test_sharing_trained_parameters_is_refused():
    with pytest.raises(ValueError, match="cannot share the parameter"):
        FrozenTeacher.from_student(tiny_model(), shared=True)


@pytest.mark.parametrize("shared", [False, True])
def test_low_precision_is_near_and_single_precision_comes_out(shared):
    student = tiny_model().requires_grad_(False)
    exact = FrozenTeacher.from_student(student).embed_frames(tiny_clips())
    rough = FrozenTeacher.from_student(student, dtype="bfloat16", shared=shared).embed_frames(tiny_clips())
    assert rough.dtype == torch.float32
    assert 0 < (rough - exact).abs().max() < 0.05
    assert {parameter.dtype for parameter in student.parameters()} == {torch.float32}


@pytest.mark.parametrize("teacher_dtype", [None, "float32"])
def test_the_teacher_looks_in_the_mixed_precision_of_the_training_unless_told_otherwise(tmp_path, teacher_dtype):
    def first_losses(**fields):
        trainer = tiny_trainer(tmp_path, max_steps=1, **fields)
        computed = {"vision_model": set(), "text_model": set()}
        for tower, found in computed.items():
            layer = getattr(trainer.teacher.model, tower).encoder.layers[0].mlp.fc1
            layer.register_forward_hook(lambda layer, inputs, output, found=found: found.add(output.dtype))
        trainer.train()
        assert {parameter.dtype for parameter in trainer.teacher.model.parameters()} == {torch.float32}
        assert computed["text_model"] == {torch.float32}
        return computed["vision_model"], trainer.state.log_history[0]["loss_distill_video"]

    exact = first_losses()
    looked_in, loss = first_losses(bf16=True, teacher_dtype=teacher_dtype)
    assert exact[0] == {torch.float32}
    assert looked_in == {torch.bfloat16 if teacher_dtype is None else torch.float32}
    assert loss == pytest.approx(exact[1], rel=0.05)


def test_each_template_is_encoded_once():
    teacher, encoded = FrozenTeacher.from_student(tiny_model()), []

    def encode(input_ids):
        encoded.append(len(input_ids))
        return teacher.embed_texts(input_ids)

    prompts = label_prompts()
    embeds = PromptEmbeds(prompts, encode)
    first = embeds.of_all_labels([0, 3])
    assert encoded == [3, 3]
    assert torch.equal(embeds.of_all_labels([0, 3]), first)
    embeds.of_all_labels([3, 1])
    assert encoded == [3, 3, 3]
    expected = teacher.model.get_label_embeds(prompts.of_all_labels([0, 3]), num_prompts=2)
    torch.testing.assert_close(first, expected)


@pytest.mark.parametrize(
    ("fields", "shared"),
    [
        ({"trained_parameters": "all"}, False),
        ({"trained_parameters": "vision"}, False),
        ({"trained_parameters": "adapters", "model_fields": {"temporal_module": "st_adapter"}}, True),
        ({"trained_parameters": "temporal", "model_fields": {"temporal_module": "cross_frame"}}, True),
        ({"trained_parameters": "lora"}, True),
    ],
)
def test_a_frozen_backbone_is_its_own_teacher(tmp_path, fields, shared):
    trainer = tiny_trainer(tmp_path, **fields)
    assert trainer.teacher.shared is shared
    before = trainer.teacher.embed_frames(tiny_clips())
    trainer.train()
    assert torch.equal(trainer.teacher.embed_frames(tiny_clips()), before)


def test_nothing_of_the_teacher_is_in_the_student_or_its_checkpoints(tmp_path):
    trainer = tiny_trainer(tmp_path, save_strategy="steps", save_steps=2)
    trainer.train()
    weights = trainer.teacher.model.text_projection.weight
    assert all(parameter is not weights for parameter in trainer.model.parameters())
    known = {name for name, _ in tiny_model().named_parameters()}
    trained = {name for name in trainer.model.state_dict() if "distillation_projectors" not in name}
    assert trained == known
    size = (tmp_path / "checkpoint-2" / "model.safetensors").stat().st_size
    assert size < 4 * sum(tensor.numel() for tensor in trainer.model.state_dict().values()) + 50_000


def test_a_teacher_of_another_width_needs_the_projector(tmp_path):
    wide = FrozenTeacher.from_student(type(tiny_model())(tiny_config(projection_dim=48)))
    for distillation in ("direct", "residual"):
        with pytest.raises(ValueError, match="have width 32 and the teacher's 48"):
            tiny_trainer(tmp_path, teacher=wide, distillation=distillation)
    trainer = tiny_trainer(tmp_path, teacher=wide, distillation="projector", eval_dataset=Arrays(4))
    trainer.train()
    assert trainer.state.log_history[0]["loss_distill_video"] > 0
    assert -1 <= trainer.evaluate()["eval_teacher_cosine_video"] <= 1


def test_a_teacher_checkpoint_with_another_tokenizer_is_refused(tmp_path, clip_folder):
    assert tiny_trainer(tmp_path, teacher_checkpoint=clip_folder).teacher.shared is False
    config = tiny_config()
    config.text_config.vocab_size = 120
    student = type(tiny_model())(config)
    with pytest.raises(ValueError, match="knows 120 tokens and the teacher's 100"):
        tiny_trainer(tmp_path, model=student, teacher_checkpoint=clip_folder)


def test_a_teacher_that_sees_frames_of_another_size_is_refused_before_the_training(tmp_path):
    """Its first pass over the frames would fail, behind all that was prepared, or deleted for the run."""
    clip = CLIPModel(
        CLIPConfig(text_config=dict(TEXT), vision_config=VISION | {"image_size": 64}, projection_dim=WIDTH)
    )
    clip.save_pretrained(tmp_path / "clip")
    config = tiny_config()
    config.vision_config.image_size = 64
    message = r"student sees frames of 16 x 16 pixels, and the teacher.* of 64 x 64.* Give a teacher of the student's"
    for fields in (
        {"teacher_checkpoint": str(tmp_path / "clip")},
        {"teacher": FrozenTeacher.from_student(type(tiny_model())(config))},
    ):
        with pytest.raises(ValueError, match=message):
            tiny_trainer(tmp_path / "run", **fields)
    with pytest.raises(ValueError, match=rf"the teacher \({re.escape(str(tmp_path))}"):
        tiny_trainer(tmp_path / "run", teacher_checkpoint=str(tmp_path / "clip"))


@pytest.mark.parametrize(
    ("end", "message"),
    [(7, "another token than the student .*is 7"), (-1, "another token"), (100_000, "another token"), (2, None)],
)
def test_a_teacher_whose_texts_end_at_a_token_that_the_prompts_lack_is_refused(tmp_path, clip_folder, end, message):
    """It would read every text at its beginning, where all are alike. 2 says that the highest token ends a text."""
    file = Path(clip_folder) / "config.json"
    file.write_text(json.dumps(merge_sections(json.loads(file.read_text()), {"text_config": {"eos_token_id": end}})))
    with nullcontext() if message is None else pytest.raises(ValueError, match=message):
        tiny_trainer(tmp_path / "run", teacher_checkpoint=clip_folder)


def test_a_teacher_that_does_not_have_the_tokens_of_the_prompts_is_refused(tmp_path):
    for fields, message in (({"vocab_size": 90}, r"up to 99 .*knows 90"), ({"max_position_embeddings": 4}, "takes 4")):
        config = tiny_config()
        config.text_config.update(fields)
        teacher = FrozenTeacher.from_student(type(tiny_model())(config))
        with pytest.raises(ValueError, match=message):
            tiny_trainer(tmp_path, teacher=teacher)


def test_the_labels_of_an_evaluation_are_read_by_the_teacher_or_refused():
    student = tiny_model()
    teacher = FrozenTeacher.from_student(student)
    teacher.model.config.text_config.eos_token_id = 7
    with pytest.raises(ValueError, match="another token"):
        LabelTexts(label_prompts(), student=student, teacher=teacher, chunk_size=None)


@pytest.mark.parametrize("scale", [95.0, -200.0, float("nan")])
def test_a_teacher_or_student_whose_logits_are_not_numbers_is_refused(tmp_path, clip_folder, scale):
    weights = load_file(Path(clip_folder) / "model.safetensors")
    weights["logit_scale"].fill_(scale)
    save_file(weights, Path(clip_folder) / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"`logit_scale` is .* logits would be multiplied by"):
        FrozenTeacher.from_dual_encoder(clip_folder)
    student = tiny_model()
    torch.nn.init.constant_(student.froster.logit_scale, scale)
    with pytest.raises(ValueError, match=r"logit_scale` is .* logits would be multiplied by"):
        tiny_trainer(tmp_path, model=student)


def test_one_embedding_a_clip_cannot_be_compared_with_frames(tmp_path):
    with pytest.raises(ValueError, match="one embedding per clip"):
        tiny_trainer(tmp_path, model_fields={"temporal_module": "joint"})
    tiny_trainer(tmp_path, model_fields={"temporal_module": "joint"}, distillation_target="text").train()


AVERAGED = {"teacher_momentum": 0.9, "max_steps": 4, "save_strategy": "steps", "save_steps": 2, "learning_rate": 1e-2}


def test_an_averaged_teacher_is_the_moving_average_of_the_clip_of_the_student(tmp_path):
    weights = []

    class Record(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            weights.append({name: p.detach().clone() for name, p in kwargs["model"].froster.named_parameters()})

    trainer = tiny_trainer(tmp_path, callbacks=[Record()], **AVERAGED)
    expected = {name: p.detach().clone() for name, p in trainer.teacher.model.named_parameters()}
    trainer.train()
    for step in weights:
        expected = {name: 0.9 * tensor + 0.1 * step[name] for name, tensor in expected.items()}
    assert len(weights) == 4
    for name, parameter in trainer.teacher.model.named_parameters():
        torch.testing.assert_close(parameter, expected[name], atol=1e-6, rtol=0)
    assert any(not torch.equal(p, weights[-1][name]) for name, p in trainer.teacher.model.named_parameters())


def test_the_texts_of_an_averaged_teacher_are_those_of_its_weights_now(tmp_path):
    trainer = tiny_trainer(tmp_path, **AVERAGED)
    before = trainer.texts_of(None).for_all_labels([0]).teacher_embeds
    trainer.train()
    after = trainer.texts_of(None).for_all_labels([0]).teacher_embeds
    tokens = trainer.texts_of(None).prompts.of_all_labels([0])
    torch.testing.assert_close(after, trainer.teacher.embed_texts(tokens))
    assert not torch.equal(before, after)


@pytest.mark.parametrize("distillation", ["residual", "relative"])
def test_a_run_with_an_averaged_teacher_is_resumed_bit_for_bit(tmp_path, distillation):
    fields = {**AVERAGED, "distillation": distillation}
    whole = tiny_trainer(tmp_path, **fields)
    whole.train()
    resumed = tiny_trainer(tmp_path, **fields)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    for ours, theirs in ((whole.student, resumed.student), (whole.teacher.model, resumed.teacher.model)):
        for name, tensor in ours.state_dict().items():
            assert torch.equal(tensor, theirs.state_dict()[name]), name


def test_a_checkpoint_without_the_averaged_teacher_is_refused(tmp_path):
    tiny_trainer(tmp_path, **AVERAGED).train()
    (tmp_path / "checkpoint-4" / "averaged_teacher.safetensors").unlink()
    with pytest.raises((ResumeError, DamagedFolderError)):
        tiny_trainer(tmp_path, **AVERAGED).train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))


def test_an_averaged_teacher_of_names_that_no_model_has_is_refused_before_they_are_read(tmp_path, monkeypatch):
    student = tiny_model()
    averaging = TeacherAveraging(partial(AveragedTeacher.from_student, student, momentum=0.9))
    save_file({"x" * 10_000: torch.zeros(1)}, tmp_path / "averaged_teacher.safetensors")
    monkeypatch.setattr("froster_hf.training.teacher.load_file", lambda _: pytest.fail("read"))
    with pytest.raises(CheckpointError, match="a tensor whose name has 10000 characters"):
        averaging.load_state(tmp_path, student)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"teacher_momentum": 1.0}, "it goes from 0 to below 1"),
        ({"teacher_momentum": 0.9, "teacher_checkpoint": "somewhere"}, "leave out `teacher`"),
        ({"teacher_momentum": 0.9, "teacher_dtype": "bfloat16"}, "leave out `teacher_dtype`"),
        ({"teacher_momentum": 0.9, "distillation": "none"}, "has no meaning"),
        (
            {
                "teacher_momentum": 0.9,
                "trained_parameters": "adapters",
                "model_fields": {"temporal_module": "st_adapter"},
            },
            "nothing of CLIP is trained",
        ),
    ],
)
def test_an_averaged_teacher_that_cannot_be_is_refused(tmp_path, fields, message):
    with pytest.raises(ValueError, match=message):
        tiny_trainer(tmp_path, **fields)


def test_momentum_of_nearly_one_is_not_lost_in_rounding():
    student = tiny_model()
    teacher = AveragedTeacher.from_student(student, momentum=0.9998)
    before = teacher.model.logit_scale.item()
    with torch.no_grad():
        student.froster.logit_scale.add_(1.0)
    teacher.follow(student)
    assert teacher.model.logit_scale.item() - before == pytest.approx(0.0002, rel=0.01)
