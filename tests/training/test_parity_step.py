"""The losses and gradients that the original implementations computed come out of FrosterTrainer's own step."""

from types import SimpleNamespace

import pytest
import torch
from transformers import TrainerCallback

from froster_hf import FrosterConfig, FrosterModel
from froster_hf.training import FrosterTrainer, FrosterTrainingArguments, FrozenTeacher, LabelPrompts
from tests.parity.trios import TRIOS, build_model, load_trio, original_gradient_norms

TEMPLATES = ("a photo of {}.", "{}")
IN_TWO_PARTS = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 2}
# The trios without the teacher's weights store its embeddings of the whole batch only.
CASES = [*((name, {}) for name in TRIOS), ("expand_temporal_view", IN_TWO_PARTS)]


class StoredTeacher(FrozenTeacher):
    """The embeddings that the trio stores, for trios without the teacher's weights."""

    embed_width, shared = 64, False

    def __init__(self, trio, config):
        self.stored, self.num_frames = trio.stored, trio.facts["num_frames"]
        self.model = SimpleNamespace(config=config)

    def to(self, device):
        return self

    def embed_frames(self, pixel_values_videos):
        return self.stored["teacher_frame_embeds"].unflatten(0, (-1, self.num_frames))

    def embed_texts(self, input_ids, *, chunk_size=None):
        return self.stored["teacher_text_embeds"]


class GradientNorms(TrainerCallback):
    def __init__(self, trio):
        self.trio, self.norms = trio, {}

    def on_pre_optimizer_step(self, args, state, control, model, **kwargs):
        self.norms = original_gradient_norms(self.trio, model)


def stored_teacher_weights(trio, student) -> FrozenTeacher:
    config = FrosterConfig(**student.config.to_dict() | {"temporal_module": "none"})
    model = FrosterModel(config)
    model.load_state_dict(trio.converted.teacher, strict=True)
    return FrozenTeacher(model)


@pytest.mark.parity
@pytest.mark.parametrize(("name", "split"), CASES)
def test_losses_and_gradients_of_the_originals(tmp_path, name, split):
    trio = load_trio(name)
    student = build_model(trio)
    num_labels = trio.stored["logits_eval"].shape[1]
    prompts = LabelPrompts.from_tokens(
        [f"label {index}" for index in range(num_labels)],
        TEMPLATES,
        trio.label_inputs["input_ids"],
        end_token=student.config.end_token,
    )
    gradient_norms = GradientNorms(trio)
    arguments = {
        "output_dir": str(tmp_path),
        "per_device_train_batch_size": 2,
        "max_steps": 1,
        "logging_steps": 1,
        "max_grad_norm": 0.0,
        "training_prompts": "all",
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
    }
    clips = [
        {"pixel_values_videos": clip, "labels": label}
        for clip, label in zip(trio.stored["pixel_values_videos"], trio.stored["labels"])
    ]
    has_weights = bool(trio.converted.teacher)
    trainer = FrosterTrainer(
        student,
        FrosterTrainingArguments(**arguments | split),
        train_dataset=clips,
        prompts=prompts,
        teacher=stored_teacher_weights(trio, student) if has_weights else StoredTeacher(trio, student.config),
        callbacks=[gradient_norms],
    )
    if not has_weights:
        trainer.data_collator = in_stored_order(trainer.data_collator, clips)
    trainer.train()

    log = trainer.state.log_history[0]
    expected = {part: trio.stored[f"loss_{part}"].item() for part in ("ce", "distill_video", "distill_text", "total")}
    assert log["loss_ce"] == pytest.approx(expected["ce"], abs=1e-5)
    assert log["loss_distill_video"] == pytest.approx(expected["distill_video"], abs=1e-5)
    assert log["loss_distill_text"] == pytest.approx(expected["distill_text"], abs=1e-5)
    assert log["loss"] == pytest.approx(expected["total"], abs=1e-5)
    assert gradient_norms.norms.keys() >= trio.facts["grad_norms"].keys()
    for parameter, norm in trio.facts["grad_norms"].items():
        assert gradient_norms.norms[parameter] == pytest.approx(norm, rel=1e-3), parameter


def in_stored_order(collate, clips):
    """The sampler shuffles the two clips, but the stored teacher knows one order only."""
    return lambda samples: collate(clips)


@pytest.mark.parity
def test_the_teacher_gives_the_stored_embeddings():
    trio = load_trio("expand_temporal_view")
    teacher = stored_teacher_weights(trio, build_model(trio))
    frames = teacher.embed_frames(trio.stored["pixel_values_videos"]).flatten(0, 1)
    torch.testing.assert_close(frames, trio.stored["teacher_frame_embeds"], rtol=0, atol=1e-5)
