"""The label bank, the loss, the projectors, and what is said about wrong input."""

import json

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForVideoClassification, Trainer, TrainingArguments

from froster_hf import FrosterForVideoClassification, FrosterModel
from tests.modeling.tiny import tiny_clip, tiny_clips, tiny_model, tiny_texts

LABELS = ["waving", "juggling", "chopping wood"]
TEXTS = {"input_ids": tiny_texts(), "num_prompts": 2}


@torch.no_grad()
def test_logits_are_scaled_products_of_video_and_label_embeddings():
    model = tiny_model()
    outputs = model(tiny_clips(), **TEXTS)
    expected = model.froster.logit_scale.exp() * outputs.video_embeds @ outputs.text_embeds.T
    torch.testing.assert_close(outputs.logits, expected)
    torch.testing.assert_close(model(tiny_clips(), text_embeds=outputs.text_embeds).logits, outputs.logits)


@torch.no_grad()
def test_the_loss_is_cross_entropy_over_the_label_list():
    model = tiny_model()
    labels = torch.tensor([2, 0])
    outputs = model(tiny_clips(), **TEXTS, labels=labels)
    torch.testing.assert_close(outputs.loss, F.cross_entropy(outputs.logits, labels))
    torch.testing.assert_close(model(tiny_clips(), **TEXTS, labels=labels.int()).loss, outputs.loss)


@torch.no_grad()
def test_the_contrastive_loss_pairs_clips_and_texts_in_order():
    model = tiny_model().froster
    outputs = model(tiny_clips(3), tiny_texts(3), return_loss=True)
    rows, columns = outputs.logits_per_video.log_softmax(1), outputs.logits_per_video.log_softmax(0)
    torch.testing.assert_close(outputs.loss, -(rows.diagonal().mean() + columns.diagonal().mean()) / 2)
    torch.testing.assert_close(outputs.logits_per_text, outputs.logits_per_video.T)
    with pytest.raises(ValueError, match="there are 3 clips and 2 texts"):
        model(tiny_clips(3), tiny_texts(2), return_loss=True)


@torch.no_grad()
def test_stored_labels_answer_like_their_texts_and_survive_saving(tmp_path):
    model = tiny_model().double()
    expected = model(tiny_clips().double(), **TEXTS).logits
    model.set_labels(LABELS, **TEXTS)
    assert model.config.id2label == dict(enumerate(LABELS))
    assert model.config.label2id == {label: i for i, label in enumerate(LABELS)}
    torch.testing.assert_close(model(tiny_clips().double()).logits, expected, atol=1e-6, rtol=0)
    model.save_pretrained(tmp_path)
    loaded = FrosterForVideoClassification.from_pretrained(tmp_path)
    assert loaded.config.id2label == dict(enumerate(LABELS))
    assert torch.equal(loaded(tiny_clips().double()).logits, model(tiny_clips().double()).logits)


@torch.no_grad()
def test_labels_can_be_stored_as_embeddings_and_replaced():
    model = tiny_model()
    model.set_labels(LABELS, **TEXTS)
    embeds = F.normalize(torch.randn(2, 32), dim=-1)
    model.set_labels(["a", "b"], text_embeds=embeds)
    assert torch.equal(model.label_embeds, embeds)
    assert model(tiny_clips()).logits.shape == (2, 2)


@torch.no_grad()
def test_texts_at_call_time_win_over_stored_labels():
    model = tiny_model()
    model.set_labels(["a", "b"], text_embeds=torch.randn(2, 32))
    assert model(tiny_clips(), **TEXTS).logits.shape == (2, 3)


@pytest.mark.parametrize(
    ("labels", "arguments", "message"),
    [
        ([], {"text_embeds": torch.zeros(0, 32)}, "different names"),
        (["a", "a"], {"text_embeds": torch.zeros(2, 32)}, r"repeated: \['a'\]"),
        ([0, 1], {"text_embeds": torch.zeros(2, 32)}, "each a string"),
        ("ab", {"text_embeds": torch.zeros(2, 32)}, "each a string"),
        (["a"], {}, "either"),
        (["a"], {"text_embeds": torch.zeros(1, 32), "input_ids": tiny_texts(1)}, "either"),
        (["a"], {"text_embeds": torch.zeros(2, 32)}, r"\(1, 32\), got \(2, 32\)"),
        (["a", "b"], {"input_ids": tiny_texts(6), "num_prompts": 2}, r"got \(3, 32\)"),
    ],
)
def test_label_lists_that_do_not_fit_are_refused(labels, arguments, message):
    model = tiny_model()
    with pytest.raises(ValueError, match=message):
        model.set_labels(labels, **arguments)
    assert model.config.num_labels == 0


def test_names_without_embeddings_do_not_pass_as_a_label_bank(tmp_path):
    """As when `id2label` is given to `from_pretrained`, the habit of other classification models."""
    tiny_clip().save_pretrained(tmp_path)
    model = FrosterForVideoClassification.from_clip(tmp_path, id2label={0: "a", 1: "b"}, label2id={"a": 0, "b": 1})
    with pytest.raises(ValueError, match=r"2 label names without embeddings.*set_labels"):
        model(tiny_clips())
    assert model(tiny_clips(), **TEXTS).logits.isfinite().all()
    model.load_state_dict({"label_embeds": torch.ones(2, 32)}, strict=False)
    assert model(tiny_clips()).logits.isfinite().all()


@torch.no_grad()
@pytest.mark.parametrize("given", ["id2label", "num_labels"])
def test_names_without_embeddings_give_one_error_everywhere_and_are_never_saved(tmp_path, given):
    fields = {"num_labels": 3} if given == "num_labels" else {"id2label": {0: "a", 1: "b", 2: "c"}}
    tiny_model().save_pretrained(tmp_path / "first")
    model = FrosterForVideoClassification.from_pretrained(tmp_path / "first", **fields)
    model.save_pretrained(tmp_path / "second")
    assert "label_embeds" not in load_file(tmp_path / "second" / "model.safetensors")
    assert "label_embeds" not in model.state_dict()
    again = FrosterForVideoClassification.from_pretrained(tmp_path / "second")
    assert again.config.num_labels == 3
    for unlabeled in (model, again):
        for ask in (unlabeled.stored_label_embeds, lambda: unlabeled(tiny_clips())):  # noqa: B023 (called at once)
            with pytest.raises(ValueError, match=r"3 label names without embeddings.*set_labels"):
                ask()


@torch.no_grad()
@pytest.mark.parametrize("names", [["x", "y", "z"], ["juggling", "waving", "chopping wood"]])
@pytest.mark.parametrize("way", ["class", "auto class", "configuration"])
def test_stored_embeddings_do_not_pass_to_other_names(tmp_path, names, way):
    model = tiny_model()
    model.set_labels(LABELS, **TEXTS)
    model.save_pretrained(tmp_path)

    def load(names):
        id2label = dict(enumerate(names))
        if way == "class":
            return FrosterForVideoClassification.from_pretrained(tmp_path, id2label=id2label)
        if way == "auto class":
            return AutoModelForVideoClassification.from_pretrained(tmp_path, id2label=id2label)
        config = AutoConfig.from_pretrained(tmp_path, id2label=id2label)
        return FrosterForVideoClassification.from_pretrained(tmp_path, config=config)

    assert torch.equal(load(LABELS).stored_label_embeds(), model.label_embeds)
    other = load(names)
    with pytest.raises(ValueError, match="3 label names without embeddings"):
        other(tiny_clips())
    assert "label_embeds" not in other.state_dict()
    other.set_labels(names, text_embeds=model.stored_label_embeds())
    assert torch.equal(other(tiny_clips()).logits, model(tiny_clips()).logits)


@torch.no_grad()
def test_below_an_adapter_stored_labels_are_names_without_the_embeddings_of_the_text_tower_that_was(tmp_path):
    peft = pytest.importorskip("peft")
    model = tiny_model()
    model.set_labels(LABELS, **TEXTS)
    model.save_pretrained(tmp_path / "base")
    base = FrosterForVideoClassification.from_pretrained(tmp_path / "base")
    peft.get_peft_model(base, peft.LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(tmp_path / "adapter")
    loaded = FrosterForVideoClassification.from_pretrained(tmp_path / "adapter")
    assert list(loaded.config.id2label.values()) == LABELS
    with pytest.raises(ValueError, match="3 label names without embeddings"):
        loaded.stored_label_embeds()


@pytest.mark.parametrize(("values", "refused"), [(float("nan"), "not finite"), (0.0, "no direction")])
@torch.no_grad()
def test_a_bank_without_directions_is_neither_stored_nor_believed(tmp_path, values, refused):
    model = tiny_model()
    with pytest.raises(ValueError, match=refused):
        model.set_labels(LABELS, text_embeds=torch.full((3, 32), values))
    assert model.config.id2label == {}
    model.set_labels(LABELS, text_embeds=torch.ones(3, 32))
    model.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights["label_embeds"][1] = values
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="3 label names without embeddings"):
        FrosterForVideoClassification.from_pretrained(tmp_path)(tiny_clips())


@torch.no_grad()
def test_every_tensor_of_an_output_with_stored_labels_belongs_to_the_batch():
    """transformers' pipelines take each of them apart by clip."""
    model = tiny_model()
    model.set_labels(LABELS, **TEXTS)
    model.add_distillation_projectors()
    outputs = model(tiny_clips(5))
    assert all(value.shape[0] == 5 for value in outputs.values())
    assert "text_embeds" in model(tiny_clips(5), **TEXTS)


def test_several_labels_per_video_are_binary_problems():
    model = tiny_model()
    model.config.problem_type = "multi_label_classification"
    labels = torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    outputs = model(tiny_clips(), **TEXTS, labels=labels)
    torch.testing.assert_close(outputs.loss, F.binary_cross_entropy_with_logits(outputs.logits, labels))


@pytest.mark.parametrize(
    ("problem", "labels", "message"),
    [
        (None, torch.tensor([True, False]), "torch.bool"),
        (None, torch.ones(2, 3), r"torch.float32.*'single_label_classification'.*problem_type"),
        ("single_label_classification", torch.ones(2, 3).long(), r"shape \(2, 3\)"),
        ("multi_label_classification", torch.tensor([0, 1]), r"int64.*'multi_label_classification': expected floats"),
        ("multi_label_classification", torch.ones(2, 2), r"shape \(2, 2\).*floats \(videos, 3\)"),
        ("regression", torch.ones(2, 3), "'regression'"),
    ],
)
def test_labels_of_another_problem_are_refused(problem, labels, message):
    model = tiny_model()
    model.config.problem_type = problem
    with pytest.raises(ValueError, match=message):
        model(tiny_clips(), **TEXTS, labels=labels)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_given_embeddings_of_another_precision_pass_the_projectors(dtype):
    model = tiny_model().to(dtype)
    model.add_distillation_projectors()
    outputs = model(tiny_clips().to(dtype), text_embeds=torch.randn(3, 32))
    assert outputs.projected_text_embeds.dtype == outputs.logits.dtype == dtype


@torch.no_grad()
def test_tuples_can_be_the_default_of_the_configuration():
    model = tiny_model()
    expected = model(tiny_clips(), **TEXTS, text_chunk_size=2).logits
    model.config.return_dict = False
    assert torch.equal(model(tiny_clips(), **TEXTS, text_chunk_size=2)[0], expected)
    assert torch.equal(model(tiny_clips(), **TEXTS)[0], model(tiny_clips(), **TEXTS, return_dict=True).logits)


@torch.no_grad()
def test_labels_can_be_stored_in_an_offloaded_model(tmp_path):
    tiny_model().save_pretrained(tmp_path)
    expected = tiny_model().froster.get_label_embeds(**TEXTS)
    on_disk = ("vision_model", "text_model", "visual_projection", "text_projection")
    places = {"froster.logit_scale": "cpu", **{f"froster.{name}": "disk" for name in on_disk}}
    model = FrosterForVideoClassification.from_pretrained(
        tmp_path, device_map=places, offload_folder=tmp_path / "offload"
    )
    model.set_labels(LABELS, **TEXTS)
    torch.testing.assert_close(model.label_embeds, expected, atol=1e-6, rtol=0)
    assert model(tiny_clips()).logits.shape == (2, 3)


class ArrayClips(torch.utils.data.Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, index):
        clip = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(index))
        return {"pixel_values_videos": clip, "labels": index % 3}


def test_transformers_own_trainer_trains_and_evaluates_a_model_with_stored_labels(tmp_path):
    """The loss is found, not multiplied by accumulation, and metrics see logits alone."""
    model = tiny_model()
    model.set_labels(LABELS, **TEXTS)
    with torch.no_grad():
        rows = [ArrayClips()[i] for i in range(8)]
        clips, labels = (
            torch.stack([r["pixel_values_videos"] for r in rows]),
            torch.tensor([r["labels"] for r in rows]),
        )
        expected = model(clips, labels=labels).loss.item()
    seen = []
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        per_device_train_batch_size=2,
        gradient_accumulation_steps=4,
        learning_rate=0.0,
        max_steps=1,
        logging_steps=1,
        report_to="none",
        use_cpu=True,
    )
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=ArrayClips(),
        eval_dataset=ArrayClips(),
        compute_metrics=lambda prediction: {"shape": seen.append(prediction.predictions.shape) or 0},
    )
    trainer.train()
    assert trainer.state.log_history[0]["loss"] == pytest.approx(expected, abs=1e-3)
    assert trainer.evaluate()["eval_loss"] == pytest.approx(expected, abs=1e-4)
    assert seen == [(8, 3)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pixel_values_videos": torch.zeros(4, 3, 16, 16)}, r"\(4, 3, 16, 16\).*\[None\]"),
        ({"pixel_values_videos": torch.zeros(1, 0, 3, 16, 16)}, "without a frame"),
        ({"pixel_values_videos": torch.zeros(1, 4, 16, 16, 3)}, r"\(1, 4, 16, 16, 3\).*channels are last.*permute"),
        ({"pixel_values_videos": torch.zeros(1, 4, 1, 16, 16)}, r"\(1, 4, 1, 16, 16\).*expected"),
        ({"pixel_values_videos": torch.zeros(1, 4, 3, 16, 16, dtype=torch.uint8)}, "uint8.*floating-point"),
        ({"pixel_values_videos": torch.zeros(1, 4, 3, 20, 20)}, "20.*16"),
        ({"input_ids": torch.zeros(4, dtype=torch.long)}, r"shape \(4,\)"),
        ({"input_ids": torch.zeros(3, 8)}, "float32.*integers"),
        ({"input_ids": torch.zeros(3, 21, dtype=torch.long)}, "21 tokens.*at most 20.*truncation"),
        ({"num_prompts": 4}, "6 texts cannot be 4 prompts"),
        ({"input_ids": None}, "knows no labels.*set_labels"),
        ({"text_embeds": torch.zeros(3, 32)}, "either"),
        ({"input_ids": None, "text_embeds": torch.zeros(3, 31)}, r"\(3, 31\).*32"),
        ({"labels": torch.tensor([0, 3])}, "from 0 to 3.*3 labels"),
        ({"labels": torch.tensor([-1, 0])}, "from -1 to 0.*from 0 to 2"),
    ],
)
def test_wrong_input_is_told_what_was_received_and_what_is_allowed(arguments, message):
    inputs = {"pixel_values_videos": tiny_clips(), **TEXTS} | arguments
    with pytest.raises(ValueError, match=message):
        tiny_model()(**inputs)


def test_residual_projectors_start_without_effect_and_leave_logits_alone():
    model = tiny_model()
    before = model(tiny_clips(), **TEXTS)
    model.add_distillation_projectors("residual", alpha=0.1)
    after = model(tiny_clips(), **TEXTS)
    assert before.projected_frame_embeds is None
    assert torch.equal(after.projected_frame_embeds, after.frame_embeds)
    assert torch.equal(after.projected_text_embeds, after.text_embeds)
    assert torch.equal(after.logits, before.logits)


def test_residual_projectors_add_alpha_times_the_projection():
    model = tiny_model()
    model.add_distillation_projectors("residual", alpha=0.5)
    projector = model.distillation_projectors.video
    torch.nn.init.normal_(projector.fc2.weight)
    outputs = model(tiny_clips(), **TEXTS)
    expected = outputs.frame_embeds + 0.5 * projector.fc2(F.gelu(projector.fc1(outputs.frame_embeds)))
    torch.testing.assert_close(outputs.projected_frame_embeds, expected)


def test_plain_projectors_map_to_the_teachers_width():
    model = tiny_model()
    model.add_distillation_projectors("mlp", teacher_width=24)
    outputs = model(tiny_clips(), **TEXTS)
    assert outputs.projected_frame_embeds.shape == (2, 4, 24)
    assert outputs.projected_text_embeds.shape == (3, 24)
    assert outputs.projected_frame_embeds.norm(dim=-1).min() > 1e-3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "residual", "teacher_width": 24}, "32.*24.*kind='mlp'"),
        ({"kind": "linear"}, "'linear'.*'residual' or 'mlp'"),
    ],
)
def test_projectors_that_cannot_work_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        tiny_model().add_distillation_projectors(**arguments)


@pytest.mark.parametrize("model_class", [FrosterModel, FrosterForVideoClassification])
def test_projectors_are_saved_for_training_and_not_for_inference(tmp_path, model_class):
    model = tiny_model()
    model.add_distillation_projectors()
    model = model if model_class is FrosterForVideoClassification else model.froster
    model.save_pretrained(tmp_path / "inference")
    model.save_pretrained(tmp_path / "training", state_dict=model.state_dict())
    for folder, expected in (("inference", 0), ("training", 4)):
        from safetensors import safe_open

        with safe_open(tmp_path / folder / "model.safetensors", "pt") as weights:
            assert len([key for key in weights.keys() if "distillation_projectors" in key]) == expected  # noqa: SIM118
        _, info = model_class.from_pretrained(tmp_path / folder, output_loading_info=True)
        assert not info["missing_keys"]
        assert not info["unexpected_keys"]


def save_labeled(folder) -> None:
    model = tiny_model()
    model.set_labels(LABELS, **TEXTS)
    model.save_pretrained(folder)


@pytest.mark.parametrize("part", ["text_model.encoder.layers.0.self_attn.q_proj", "text_projection"])
def test_embeddings_of_labels_do_not_outlive_the_text_tower_that_made_them(tmp_path, part):
    save_labeled(tmp_path / "before")
    trained = FrosterForVideoClassification.from_pretrained(tmp_path / "before")
    with torch.no_grad():
        # As an adapter that is merged.
        trained.froster.get_submodule(part).weight.add_(1e-4)
    trained.save_pretrained(tmp_path / "after")
    for dtype in (None, torch.bfloat16):
        loaded = FrosterForVideoClassification.from_pretrained(tmp_path / "after", dtype=dtype)
        with pytest.raises(ValueError, match="those in its files are of other weights of the text tower"):
            loaded.stored_label_embeds()
    loaded.set_labels(LABELS, **TEXTS)
    loaded.save_pretrained(tmp_path / "again")
    assert FrosterForVideoClassification.from_pretrained(tmp_path / "again").stored_label_embeds().isfinite().all()


def test_embeddings_of_labels_stay_where_the_text_tower_is_cast(tmp_path):
    save_labeled(tmp_path / "0")
    bank = FrosterForVideoClassification.from_pretrained(tmp_path / "0").stored_label_embeds()
    casts = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.float16)
    for number, dtype in enumerate(casts):
        model = FrosterForVideoClassification.from_pretrained(tmp_path / str(number), dtype=dtype)
        torch.testing.assert_close(model.stored_label_embeds().float(), bank, atol=0.02, rtol=0)
        with torch.no_grad():
            # What the embeddings of texts do not come from.
            model.froster.vision_model.post_layernorm.weight.add_(0.5)
        model.save_pretrained(tmp_path / str(number + 1))
    halved = FrosterForVideoClassification.from_pretrained(tmp_path / "0").half()
    halved.save_pretrained(tmp_path / "half")
    loaded = FrosterForVideoClassification.from_pretrained(tmp_path / "half", dtype=torch.bfloat16)
    assert loaded.stored_label_embeds().dtype == torch.bfloat16


def test_embeddings_of_labels_that_an_earlier_release_stored_are_bound_when_they_are_loaded(tmp_path):
    save_labeled(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["label_weights"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    model = FrosterForVideoClassification.from_pretrained(tmp_path)
    assert model.stored_label_embeds().isfinite().all()
    with torch.no_grad():
        model.froster.text_projection.weight.mul_(-1)
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="without embeddings"):
        FrosterForVideoClassification.from_pretrained(tmp_path).stored_label_embeds()
