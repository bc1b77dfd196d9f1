"""Batches that no memory of this machine holds are refused when the Trainer is made, whatever makes them so large."""

import dataclasses
from functools import partial

import pytest
import torch
from datasets import ClassLabel

from froster_hf import FrosterConfig, machine_memory
from froster_hf.data.clips import TrainingClips
from froster_hf.modeling import configuration_froster
from froster_hf.modeling.configuration_froster import Costs
from froster_hf.training import FrosterTrainer, FrosterTrainingArguments, batch_memory
from froster_hf.training.batch_memory import refuse_evaluation_beyond_memory, refuse_training_beyond_memory
from froster_hf.training.teacher import FrozenTeacher
from tests.fixtures.tiny import tiny_model, tiny_processor

LONG = {"num_frames": 2048}


def make_trainer(folder, table, *, model=None, templates=("{}",), novel=None, **fields) -> FrosterTrainer:
    fields = {"per_device_train_batch_size": 1, "per_device_eval_batch_size": 1, "report_to": "none", **fields}
    return FrosterTrainer(
        model or tiny_model(),
        FrosterTrainingArguments(output_dir=str(folder), use_cpu=True, **fields),
        train_dataset=table,
        eval_dataset={"base": table, "novel": novel or table},
        processing_class=tiny_processor(list(templates)),
    )


@pytest.mark.parametrize(
    ("fields", "numbers"),
    [
        ({"per_device_train_batch_size": 1000, "train_video_options": LONG}, "6 videos at once, 6 in memory, of 2"),
        # All that an optimizer step takes is read before the first is computed.
        ({"gradient_accumulation_steps": 1000, "train_video_options": LONG}, "6 in memory, of 2,048"),
        ({"dataloader_num_workers": 2, "train_video_options": LONG}, "5 in memory, of 2,048"),
        ({"per_device_eval_batch_size": 5, "eval_video_options": LONG}, "5 videos at once, 5 in memory, of 2,048"),
        ({"per_device_eval_batch_size": 9, "eval_video_options": {"num_views": 64, "num_crops": 3}}, "of 768 frames"),
    ],
)
def test_clips_beyond_the_memory_that_is_left_are_refused(tmp_path, video_table, monkeypatch, fields, numbers):
    monkeypatch.setattr(machine_memory, "free_bytes", lambda: 50e6)
    with pytest.raises(ValueError, match=f"{numbers}.* GB of memory, and this machine has 0.0 GB left. Lower"):
        make_trainer(tmp_path, video_table, **fields)
    assert make_trainer(tmp_path, video_table)


def test_activations_that_are_held_for_the_backward_pass_count_where_they_are_trained(
    tmp_path, video_table, monkeypatch
):
    fields = {"per_device_train_batch_size": 4, "train_video_options": {"num_frames": 512}, "distillation": "none"}
    # The pixels alone have 25 MB.
    monkeypatch.setattr(machine_memory, "free_bytes", lambda: 40e6)
    with pytest.raises(ValueError, match="4 videos at once"):
        make_trainer(tmp_path, video_table, **fields)
    assert make_trainer(tmp_path, video_table, **fields, trained_parameters="text")


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        ({"temporal_module": "motion_adapter", "adapter_size": 512}, {}),
        ({"temporal_module": "context_tokens"}, {"trained_parameters": "text"}),
        ({"temporal_pooling": "transformer_cls", "pooling_num_layers": 2}, {}),
        ({"temporal_pooling": "lstm", "projection_dim": 512}, {}),
        ({"projection_dim": 4096}, {"trained_parameters": "text"}),
    ],
    ids=["adapter", "context", "transformer_cls", "lstm", "embeddings"],
)
def test_what_modules_and_poolings_hold_counts_for_each_video(tmp_path, video_table, monkeypatch, options, fields):
    model = tiny_model(**({"temporal_module": "none", "num_frames": 64} | options))
    fields = {"model": model, "distillation": "none", "train_video_options": {"num_frames": 64}, **fields}
    monkeypatch.setattr(batch_memory, "num_ahead", lambda args: 0)
    weights = 12 * sum(entry.numel() for entry in model.parameters())
    # The pixels of a clip have 0.8 MB.
    monkeypatch.setattr(machine_memory, "free_bytes", lambda: weights + 12e6)
    with pytest.raises(ValueError, match="6 videos at once"):
        make_trainer(tmp_path, video_table, per_device_train_batch_size=6, **fields)
    assert make_trainer(tmp_path, video_table, per_device_train_batch_size=1, **fields)


def test_embeddings_of_a_wider_teacher_count(tmp_path, video_table, monkeypatch):
    teacher = FrozenTeacher.from_student(tiny_model(projection_dim=4096))
    options = {"train_dataset": video_table, "processing_class": tiny_processor(), "teacher": teacher}
    fields = {"distillation": "projector", "train_video_options": {"num_frames": 64}, "report_to": "none"}
    monkeypatch.setattr(machine_memory, "free_bytes", lambda: 15e6)
    args = FrosterTrainingArguments(str(tmp_path), use_cpu=True, per_device_train_batch_size=6, **fields)
    with pytest.raises(ValueError, match="6 videos at once"):
        FrosterTrainer(tiny_model(), args, **options)
    for others in ({"distillation_target": "text"}, {"per_device_train_batch_size": 1}):
        assert FrosterTrainer(tiny_model(), dataclasses.replace(args, **others), **options)


def test_embeddings_count_where_they_are_measured(tmp_path, video_table, monkeypatch):
    """Of clips that are computed one after the other, too."""
    model = tiny_model(projection_dim=4096)
    fields = {"model": model, "distillation": "none", "eval_video_options": {"num_frames": 128}}
    monkeypatch.setattr(machine_memory, "free_bytes", lambda: 30e6)
    with pytest.raises(ValueError, match="6 videos at once"):
        make_trainer(tmp_path, video_table, per_device_eval_batch_size=6, **fields)
    assert make_trainer(tmp_path, video_table, **fields)


@pytest.mark.parametrize(
    "fields",
    [{"distillation": "logits"}, {"objective": "symmetric_kl", "training_prompts": "random", "distillation": "none"}],
    ids=lambda fields: fields["distillation"],
)
def test_scores_that_a_loss_adds_are_counted(tmp_path, video_table, monkeypatch, fields):
    counted = []
    monkeypatch.setattr(TrainingClips, "refuse_beyond_memory", lambda clips, **given: counted.append(given))
    args = FrosterTrainingArguments(output_dir=str(tmp_path), use_cpu=True, per_device_train_batch_size=6, **fields)
    plain = dataclasses.replace(args, objective="cross_entropy", distillation="none")
    clips = TrainingClips(video_table, video_processor=tiny_processor().video_processor, seed=0)
    teacher = None if fields["distillation"] == "none" else FrozenTeacher.from_student(tiny_model())
    for num_scored in (1000, 2000):
        for given, own in ((args, teacher), (plain, None)):
            refuse_training_beyond_memory(
                clips,
                model=tiny_model(),
                teacher=own,
                args=given,
                num_texts=2,
                text_lengths=torch.full((2,), 5),
                num_scored=num_scored,
            )
    few, few_plain, many, many_plain = (given["model_bytes"] for given in counted)
    assert many - few == pytest.approx({"logits": 7, "none": 6}[fields["distillation"]] * 6 * 1000 * 4)
    assert many_plain - few_plain == pytest.approx(3 * 6 * 1000 * 4)


def test_clips_of_which_a_model_of_its_size_keeps_too_much_are_refused(tmp_path, video_table, monkeypatch):
    monkeypatch.setattr(Costs, "most_kept", 1000)
    with pytest.raises(ValueError, match=r"Of a clip of 4 frames, .* a model of this size keeps at most 1\.0e\+03\."):
        make_trainer(tmp_path, video_table)
    assert make_trainer(tmp_path, video_table, trained_parameters="text")


def test_layers_behind_what_is_trained_count_wherever_it_stands(tmp_path, video_table, monkeypatch):
    model = tiny_model(temporal_module="joint")
    costs, tower = model.config.costs(4), model.config.vision_config
    # One vector before all layers is trained.
    monkeypatch.setattr(Costs, "most_kept", costs.kept_numbers(0.5 * tower.num_hidden_layers) - 1)
    with pytest.raises(ValueError, match="numbers would be kept for the backward pass"):
        make_trainer(tmp_path, video_table, model=model, trained_parameters="temporal", distillation="none")
    for name, entry in model.named_parameters():
        entry.requires_grad_("post_layernorm" in name or ".layers.1." in name)
    args = FrosterTrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    assert batch_memory._kept_layers(model, "vision_model", tower, args) == 0.875
    tower.hidden_act = "gelu"
    assert batch_memory._kept_layers(model, "vision_model", tower, args) == 0.5
    for name, entry in model.named_parameters():
        entry.requires_grad_("post_layernorm" in name)
    assert batch_memory._kept_layers(model, "vision_model", tower, args) == 0


def test_what_checkpointing_holds_of_every_layer_counts(tmp_path, video_table, monkeypatch):
    """A block is computed again in the backward pass, from what it has read."""
    model = tiny_model()
    costs, tower = model.config.costs(4), model.config.vision_config
    one, every = (costs.kept_numbers(number) for number in (1, tower.num_hidden_layers))
    monkeypatch.setattr(Costs, "most_kept", every - 1)
    with pytest.raises(ValueError, match="numbers would be kept for the backward pass"):
        make_trainer(tmp_path, video_table, model=model)
    assert make_trainer(tmp_path, video_table, model=model, gradient_checkpointing=True)
    monkeypatch.setattr(Costs, "most_kept", one + 1)
    with pytest.raises(ValueError, match="numbers would be kept for the backward pass"):
        make_trainer(tmp_path, video_table, model=model, gradient_checkpointing=True)
    monkeypatch.setattr(Costs, "most_kept", every - 1)
    with pytest.raises(ValueError, match="numbers would be kept for the backward pass"):
        make_trainer(
            tmp_path,
            video_table,
            model=model,
            gradient_checkpointing=True,
            gradient_checkpointing_kwargs={"every_n_layers": 1000},
        )


def test_texts_of_which_dropout_has_too_many_scores_kept_are_refused(tmp_path, video_table, monkeypatch):
    model = tiny_model()
    model.config.text_config.attention_dropout = 0.1
    monkeypatch.setattr(Costs, "most_kept", 1000)
    fields = {"model": model, "trained_parameters": "text"}
    with pytest.raises(
        ValueError, match=r"Of \d texts, .* numbers would be kept .* at most 1\.0e\+03\. Set `text_chunk"
    ):
        make_trainer(tmp_path, video_table, **fields)
    model.config.text_config.attention_dropout = 0.0
    assert make_trainer(tmp_path, video_table, **fields)


@pytest.mark.parametrize(
    ("fields", "clip"),
    [
        ({"train_video_options": {"num_frames": 512}}, "A clip of 512 frames of .*, 1 of them per video,"),
        (
            {"eval_video_options": {"num_frames": 8, "num_views": 64}},
            "A clip of 8 frames of .*, 64 of them per video,",
        ),
    ],
)
def test_clips_beyond_what_a_model_of_its_size_computes_are_refused(tmp_path, video_table, monkeypatch, fields, clip):
    """The processor's count of frames is not the configuration's."""
    monkeypatch.setattr(configuration_froster, "MAX_TOKENS", 200)
    monkeypatch.setattr(configuration_froster, "MAX_WORK", 0)
    with pytest.raises(ValueError, match=f"{clip} has .*; a model of this size has at most"):
        make_trainer(tmp_path, video_table, **fields)


@pytest.mark.parametrize("options", ["train_video_options", "eval_video_options"])
def test_clips_of_frames_of_another_size_than_the_model_sees_are_refused(tmp_path, video_table, options):
    fields = {"cropping": "center", "do_center_crop": False, "size": {"height": 512, "width": 512}}
    with pytest.raises(ValueError, match="makes frames of 512 x 512 pixels, and the model sees 32 x 32"):
        make_trainer(tmp_path, video_table, **{options: fields})
    assert make_trainer(tmp_path, video_table, **{options: fields | {"size": {"height": 32, "width": 32}}})


def test_a_teacher_that_cannot_bear_the_students_clips_is_refused(tmp_path, video_table):
    """It may be a stranger's, checked for its own few frames."""
    teacher = FrozenTeacher.from_student(tiny_model())
    teacher.model.config.vision_config.patch_size = 1
    options = {"train_dataset": video_table, "processing_class": tiny_processor(), "teacher": teacher}
    few, many = (
        FrosterTrainingArguments(
            str(tmp_path), use_cpu=True, report_to="none", train_video_options={"num_frames": num_frames}
        )
        for num_frames in (2, 1024)
    )
    assert FrosterTrainer(tiny_model(), few, **options).teacher is teacher
    with pytest.raises(
        ValueError, match=r"A clip of 1024 frames of 1024 patches, .* a model of this size has at most"
    ):
        FrosterTrainer(tiny_model(), many, **options)


def test_gradients_and_the_optimizers_state_of_what_is_trained_count(tmp_path, video_table, monkeypatch):
    fields = {"trained_parameters": "vision", "distillation": "none"}
    student = make_trainer(tmp_path, video_table, **fields).student
    num_trained = sum(entry.numel() for entry in student.parameters() if entry.requires_grad)
    monkeypatch.setattr(batch_memory.TrainingClips, "refuse_beyond_memory", lambda *args, **kwargs: None)
    for optim, num_bytes in (("adamw_torch", 12), ("sgd", 4)):
        monkeypatch.setattr(machine_memory, "free_bytes", partial(float, num_bytes * num_trained - 1))
        with pytest.raises(ValueError, match=f"The gradients of {num_trained:,} weights, .* Train fewer of them"):
            make_trainer(tmp_path, video_table, optim=optim, **fields)
        # That is measured and not trained.
        make_trainer(tmp_path, video_table, optim=optim, num_train_epochs=0, **fields)
        monkeypatch.setattr(machine_memory, "free_bytes", partial(float, num_bytes * num_trained))
        make_trainer(tmp_path, video_table, optim=optim, **fields)


def test_the_optimizers_state_is_held_beside_the_clips(tmp_path, video_table, monkeypatch):
    model = tiny_model()
    asked = []
    monkeypatch.setattr(
        batch_memory.TrainingClips,
        "refuse_beyond_memory",
        lambda self, *, model_bytes, **kwargs: asked.append(model_bytes),
    )
    for optim in ("sgd", "adamw_torch"):
        trainer = make_trainer(tmp_path, video_table, model=model, optim=optim, distillation="none")
    num_trained = sum(entry.numel() for entry in trainer.student.parameters() if entry.requires_grad)
    assert asked[-1] - asked[0] == 8 * num_trained


def test_texts_that_are_encoded_at_once_count_too(tmp_path, video_table, monkeypatch):
    templates, fields = (
        [f"{number} {{}}" for number in range(1000)],
        {"training_prompts": "all", "distillation": "none"},
    )
    monkeypatch.setattr(machine_memory, "free_bytes", lambda: 10e6)
    with pytest.raises(ValueError, match="`text_chunk_size`"):
        make_trainer(tmp_path, video_table, templates=templates, text_chunk_size=None, **fields)
    assert make_trainer(tmp_path, video_table, templates=templates, text_chunk_size=64, **fields)


@pytest.mark.parametrize(
    ("fields", "num_embeds"),
    [
        # Those of a frozen text tower are kept, of student and teacher, and averaged.
        ({"trained_parameters": "vision", "distillation": "none"}, 2),
        ({"trained_parameters": "vision"}, 3),
        # Those that are trained have gradients.
        ({"distillation": "none"}, 2),
        ({"distillation": "none", "training_prompts": "random"}, 1),
        ({}, 3),
        # Of a teacher that follows, none are kept.
        ({"teacher_momentum": 0.9}, 2),
        ({"objective": "symmetric_kl", "training_prompts": "random", "distillation": "none"}, 1),
    ],
)
def test_embeddings_of_labels_that_a_training_holds_count(tmp_path, video_table, monkeypatch, fields, num_embeds):
    num_labels, templates = video_table.features["label"].num_classes, [f"{number} {{}}" for number in range(100)]
    numbers = num_embeds * num_labels * len(templates) * tiny_model().config.projection_dim
    fields = {"templates": templates, "training_prompts": "all", "text_chunk_size": 8, **fields}
    monkeypatch.setattr(configuration_froster, "MAX_EMBEDDED_PER_PARAMETER", 0)
    monkeypatch.setattr(configuration_froster, "MAX_EMBEDDED", numbers - 1)
    with pytest.raises(
        ValueError, match=rf"embeddings of {num_labels} labels under 100 templates .* Give fewer labels"
    ):
        make_trainer(tmp_path, video_table, **fields)
    monkeypatch.setattr(configuration_froster, "MAX_EMBEDDED", numbers)
    assert make_trainer(tmp_path, video_table, **fields)


def test_embeddings_of_the_labels_of_an_evaluation_count(tmp_path, video_table, monkeypatch):
    names = video_table.features["label"].names
    novel = video_table.cast_column("label", ClassLabel(names=[*names, *map(str, range(100))]))
    num_labels, width = 2 * len(names) + 100, tiny_model().config.projection_dim
    # The teacher's of both lists are kept, and the student's of the longer one averaged.
    numbers = (num_labels + len(names) + 100) * width
    monkeypatch.setattr(configuration_froster, "MAX_EMBEDDED_PER_PARAMETER", 0)
    monkeypatch.setattr(configuration_froster, "MAX_EMBEDDED", numbers - 1)
    with pytest.raises(ValueError, match=f"The embeddings of {num_labels} labels under 1 templates would be"):
        make_trainer(tmp_path, video_table, novel=novel)
    assert make_trainer(tmp_path, video_table)
    monkeypatch.setattr(configuration_froster, "MAX_EMBEDDED", numbers)
    assert make_trainer(tmp_path, video_table, novel=novel)


def test_embeddings_of_labels_beyond_the_memory_that_is_left_are_refused(tmp_path, video_table, monkeypatch):
    templates = [f"{number} {{}}" for number in range(1000)]
    monkeypatch.setattr(machine_memory, "free_bytes", lambda: 2e5)
    fields = {"text_chunk_size": 8, "distillation": "none", "trained_parameters": "vision"}
    with pytest.raises(ValueError, match="labels under 1,000 templates would take at least"):
        make_trainer(tmp_path, video_table, templates=templates, **fields)


@pytest.mark.parametrize("temporal_module", ["none", "joint"])
def test_operations_of_clips_that_ctrl_c_would_not_end_are_refused(
    tmp_path, video_table, monkeypatch, temporal_module
):
    """Clips, frames, patches and widths are allowed one by one, and all of a batch goes through a layer together."""
    model = tiny_model(num_frames=64, temporal_module=temporal_module)
    most = 1.5 * model.config.costs(64).largest_product / torch.get_num_threads()
    monkeypatch.setattr(batch_memory, "MOST_MULTIPLICATIONS", most)
    fields = {"model": model, "train_video_options": {"num_frames": 64}, "distillation": "none"}
    assert make_trainer(tmp_path, video_table, **fields)
    fields["per_device_train_batch_size"] = 2
    with pytest.raises(ValueError, match=r"The clips of a step would be .* in one operation, which Ctrl-C would not"):
        make_trainer(tmp_path, video_table, **fields)
    assert make_trainer(tmp_path, video_table, **fields, num_train_epochs=0)


@pytest.mark.parametrize("what", ["texts", "scores"])
def test_operations_of_texts_that_ctrl_c_would_not_end_are_refused(tmp_path, video_table, monkeypatch, what):
    monkeypatch.setattr(Costs, "largest_product", 0)
    most = {"texts": 10_000, "scores": 10}[what]
    monkeypatch.setattr(batch_memory, "MOST_MULTIPLICATIONS", most / torch.get_num_threads())
    with pytest.raises(ValueError, match=f"The {what} of a step would be .* in one operation, which Ctrl-C would not"):
        make_trainer(tmp_path, video_table, trained_parameters="text")
    if what == "texts":
        assert make_trainer(tmp_path, video_table, trained_parameters="vision")


def test_the_largest_operation_of_a_clip_is_that_of_its_mlps_attention_or_patches():
    """By hand, of ViT-B/16: tokens x width x inner width; 4 x scores x channels of a head; pixels x width."""
    towers = {"vision_config": {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}}
    towers["vision_config"] |= {"num_hidden_layers": 12, "patch_size": 16, "image_size": 224}
    assert FrosterConfig(**towers, temporal_module="none").costs(8).largest_product == 8 * 197 * 768 * 3072
    scores = FrosterConfig(**towers, temporal_module="joint").costs(64).largest_product / 4 / 768
    assert scores == pytest.approx((64 * 197) ** 2, rel=0.01)
    towers["vision_config"] |= {"intermediate_size": 1, "patch_size": 224}
    assert FrosterConfig(**towers, temporal_module="none").costs(8).largest_product == 8 * 3 * 224**2 * 768


def test_scores_of_a_step_count_for_all_its_clips_and_labels(tmp_path, video_table, monkeypatch):
    asked = {}
    monkeypatch.setattr(
        batch_memory.TrainingClips,
        "refuse_beyond_memory",
        lambda self, *, batch_size, model_bytes, **kwargs: asked.update({batch_size: model_bytes}),
    )
    trainer = make_trainer(tmp_path, video_table, per_device_train_batch_size=3)
    options = {"model": trainer.student, "teacher": None, "args": trainer.args, "num_texts": 1}
    options |= {"text_lengths": torch.tensor([[5]]), "num_scored": 1}
    refuse_training_beyond_memory(trainer.train_dataset, **options)
    before = asked[3]
    refuse_training_beyond_memory(trainer.train_dataset, **options | {"num_scored": 1001})
    # Each, its logarithm and its gradient, in single precision.
    assert asked[3] - before == 3 * 1000 * 3 * 4


def test_scores_of_all_views_of_an_evaluation_s_batch_count(tmp_path, video_table, monkeypatch):
    fields = {"eval_video_options": {"num_views": 64}, "prediction_loss_only": True}
    monkeypatch.setattr(batch_memory, "SCORE_NUMBERS", 10**8)
    monkeypatch.setattr(machine_memory, "free_bytes", lambda: 10e9)
    with pytest.raises(ValueError, match=r"The scores of 64 views of 1 videos for \d labels each would take at least"):
        make_trainer(tmp_path, video_table, trained_parameters="text", **fields)


def test_scores_that_are_kept_until_all_videos_are_measured_count(tmp_path, video_table, monkeypatch):
    trainer = make_trainer(tmp_path, video_table)
    clips, options = trainer.eval_dataset["base"], {"model": trainer.student, "args": trainer.args}
    monkeypatch.setattr(machine_memory, "free_bytes", lambda: (6 + 5) * 10_000 * 4 - 1)
    without_scores = dataclasses.replace(trainer.args, prediction_loss_only=True)
    for clips.label_names, num_labels in ((["a"] * 10_000, 2), (None, 10_000)):
        with pytest.raises(ValueError, match="The scores of 6 videos for 10,000 labels each, which are kept until"):
            refuse_evaluation_beyond_memory(clips, num_labels=num_labels, **options)
        refuse_evaluation_beyond_memory(clips, num_labels=num_labels, **options | {"args": without_scores})
    clips.label_names = ["a"] * 9_999
    refuse_evaluation_beyond_memory(clips, num_labels=2, **options)
