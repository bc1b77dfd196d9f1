"""A backbone, a temporal module and a pooling that a user enters in the tables: everything takes them, with no other
change.
"""

import dataclasses
import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedConfig, SiglipVisionConfig, SiglipVisionModel

from froster_hf import FrosterForVideoClassification, FrosterModel
from froster_hf.cli import build_parser
from froster_hf.evaluation import attention_rollout, gradient_map
from froster_hf.hub import CardFacts, build_model_card
from froster_hf.hub.serving import export_towers
from froster_hf.modeling.tables_froster import (
    BACKBONES,
    TEMPORAL_MODULES,
    TEMPORAL_POOLINGS,
    BackboneEntry,
    TemporalModuleEntry,
    TemporalPoolingEntry,
    historical_end_token,
    modules_without_parameters,
)
from froster_hf.modeling.temporal_froster import BackbonePart
from froster_hf.training import interpolate
from froster_hf.training.recipes import load_recipe
from froster_hf.training.student import decay_parameter_names
from tests.modeling.tiny import NUM_FRAMES, SIZE, TEXT, VISION, WIDTH, tiny_clip, tiny_clips, tiny_model, tiny_texts
from tests.training.tiny import tiny_trainer

TEXTS = {"input_ids": tiny_texts(), "num_prompts": 2}


class EchoLayer(BackbonePart):
    """A block to whose input an adapted copy of the previous frame is added."""

    def __init__(self, config, temporal):
        super().__init__(config)
        self.echo = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        self.echo_times = nn.Parameter(torch.zeros(temporal.num_frames, config.hidden_size))

    def forward(self, hidden_states, attention_mask=None, *, num_frames, **kwargs):
        clips = hidden_states.unflatten(0, (-1, num_frames))
        previous = clips.roll(1, dims=1) + self.echo_times[:, None]
        return super().forward((clips + self.echo(previous)).flatten(0, 1), attention_mask, **kwargs)


class FirstFramePooling(nn.Module):
    """Mostly the first frame."""

    def __init__(self, config):
        super().__init__()
        self.share = nn.Parameter(torch.zeros(()))

    def init_own_weights(self):
        nn.init.constant_(self.share, 0.75)

    def forward(self, frame_embeds):
        return torch.lerp(frame_embeds.mean(dim=1), frame_embeds[:, 0], self.share)


ENTRIES = {
    "temporal_module": TemporalModuleEntry(
        description="the previous frame's echo",
        source="this test",
        implementation=EchoLayer,
        place="block",
        mixes_frames=True,
        time_symmetric=False,
        fields=("num_frames",),
        own_parameters=("echo", "echo_times"),
        zero_start=("echo", "echo_times"),
        position_embeddings=("echo_times",),
        recorded=False,
    ),
    "temporal_pooling": TemporalPoolingEntry(
        description="mostly the first frame", source="this test", implementation=FirstFramePooling
    ),
}
TABLES = {"temporal_module": TEMPORAL_MODULES, "temporal_pooling": TEMPORAL_POOLINGS}
OWN_PARAMETERS = {
    "temporal_module": {
        f"vision_model.encoder.layers.{layer}.{name}" for layer in (0, 1) for name in ("echo.weight", "echo_times")
    },
    "temporal_pooling": {"temporal_pooling.share"},
}


@pytest.fixture(params=list(ENTRIES))
def axis(request, monkeypatch) -> str:
    """The axis on which a member `toy` has just been entered."""
    monkeypatch.setitem(TABLES[request.param], "toy", ENTRIES[request.param])
    return request.param


def toy_model(axis: str, **options) -> FrosterForVideoClassification:
    return tiny_model(**{axis: "toy"}, **options)


def test_it_is_saved_and_loaded_and_starts_as_its_entry_says(axis, tmp_path):
    fresh = toy_model(axis, perturb=False).froster
    if axis == "temporal_module":
        assert not any(fresh.get_parameter(name).any() for name in OWN_PARAMETERS[axis])
    else:
        assert fresh.temporal_pooling.share == 0.75
    model = toy_model(axis)
    model.save_pretrained(tmp_path)
    loaded = FrosterForVideoClassification.from_pretrained(tmp_path)
    assert getattr(loaded.config, axis) == "toy"
    with torch.no_grad():
        expected = model(tiny_clips(), **TEXTS).logits
        assert torch.equal(loaded(tiny_clips(), **TEXTS).logits, expected)
        plain = tiny_model(temporal_module="none")
        plain.load_state_dict(model.state_dict(), strict=False)
        assert (plain(tiny_clips(), **TEXTS).logits - expected).abs().max() > 1e-4


def test_a_clip_checkpoint_and_the_shell_take_its_name(axis, tmp_path):
    tiny_clip().save_pretrained(tmp_path)
    model = FrosterModel.from_clip(tmp_path, **{"temporal_module": "none", axis: "toy"}, num_frames=NUM_FRAMES)
    assert getattr(model.config, axis) == "toy"
    option = f"--{axis.replace('_', '-')}"
    arguments = build_parser().parse_args(["convert", "in", "out", option, "toy"])
    assert getattr(arguments, axis) == "toy"
    with pytest.raises(ValueError, match=rf"{axis}` is 'tsm'; it must be one of .*toy"):
        FrosterModel.from_clip(tmp_path, **{axis: "tsm"})


def test_recipes_take_its_name(axis):
    recipe = load_recipe("froster_k400", [f"model.{axis}=toy"])
    assert getattr(recipe.model, axis) == "toy"
    with pytest.raises(ValueError, match=rf"{axis} is 'tsm'; it must be one of .*, toy or null"):
        load_recipe("froster_k400", [f"model.{axis}=tsm"])


def test_its_blocks_are_not_split_over_devices(axis):
    told = toy_model(axis)._no_split_modules
    assert ("EchoLayer" in told) == (axis == "temporal_module")
    assert {"CLIPTextEmbeddings", "CLIPVisionEmbeddings", "CLIPEncoderLayer"} <= told


def test_two_steps_train_what_is_its_own_and_nothing_else(axis, tmp_path):
    model = toy_model(axis)
    before = {name: parameter.clone() for name, parameter in model.froster.named_parameters()}
    tiny_trainer(tmp_path, model=model, trained_parameters="temporal", distillation="none").train()
    changed = {name for name, value in before.items() if not torch.equal(value, model.froster.get_parameter(name))}
    assert changed == OWN_PARAMETERS[axis]
    decaying = {name.removeprefix("froster.") for name in decay_parameter_names(model)}
    assert decaying & OWN_PARAMETERS[axis] == {name for name in OWN_PARAMETERS[axis] if name.endswith("echo.weight")}


def test_it_is_exported_for_the_frames_that_its_entry_allows(axis, tmp_path):
    (video, _) = export_towers(toy_model(axis), tmp_path, formats=["torch_export"])
    assert video.max_difference < 1e-4
    frames = NUM_FRAMES if axis == "temporal_module" else "T"
    about = json.loads((tmp_path / "towers.json").read_text())
    assert about["video_tower"]["pixel_values_videos"] == ["B", frames, 3, SIZE, SIZE]


@pytest.mark.parametrize("symmetric", [False, True])
def test_the_card_names_it_and_its_limit(axis, symmetric, monkeypatch):
    config = toy_model(axis).config
    config.temporal_module = config.temporal_module if axis == "temporal_module" else "none"
    monkeypatch.setitem(TABLES[axis], "toy", dataclasses.replace(ENTRIES[axis], time_symmetric=symmetric))
    text = build_model_card(CardFacts("tiny"), config=config).text
    assert "| toy |" in text
    assert ("played backwards" in text) == symmetric


def test_predictions_are_explained(axis):
    model = toy_model(axis)
    side = SIZE // VISION["patch_size"]
    for relevance in (
        attention_rollout(model, tiny_clips(1)),
        gradient_map(model, tiny_clips(1), text_embeds=torch.randn(3, WIDTH), label_index=1),
    ):
        assert relevance.shape == (NUM_FRAMES, side, side)
        assert relevance.sum().item() == pytest.approx(1.0, abs=1e-5)


def test_checkpoints_that_have_it_are_interpolated(axis, tmp_path):
    for name, perturb in (("a", False), ("b", True)):
        toy_model(axis, perturb=perturb).save_pretrained(tmp_path / name)
    folder = interpolate(tmp_path / "a", tmp_path / "b", 0.5, output_dir=tmp_path / "out")
    assert getattr(FrosterForVideoClassification.from_pretrained(folder).config, axis) == "toy"
    assert "toy" not in modules_without_parameters()


@pytest.mark.parametrize("name", ["temporal_module", "temporal_pooling"])
def test_an_entry_without_a_class_is_an_error(name, monkeypatch):
    monkeypatch.setitem(TABLES[name], "toy", dataclasses.replace(ENTRIES[name], implementation="Missing"))
    with pytest.raises(TypeError, match="'Missing', which does not exist"):
        tiny_model(**{name: "toy"})


class ToyConfig(PreTrainedConfig):
    """A dual encoder whose text tower is CLIP's, and whose vision tower is SigLIP's."""

    model_type = "toy"
    width: int = WIDTH
    text_config: dict | None = None
    vision_config: dict | None = None

    def __post_init__(self, **kwargs):
        self.text_config = CLIPTextConfig(**self.text_config)
        self.vision_config = SiglipVisionConfig(**self.vision_config)
        super().__post_init__(**kwargs)


TOY_BACKBONE = BackboneEntry(
    description="half CLIP, half SigLIP",
    source="this test",
    license="MIT",
    checkpoints=(),
    config=ToyConfig,
    text_config=CLIPTextConfig,
    vision_config=SiglipVisionConfig,
    text_model=CLIPTextModel,
    vision_model=SiglipVisionModel,
    has_class_token=False,
    has_projections=True,
    embed_width=lambda config: config.width,
    end_token=historical_end_token,
    logit_scale=1.0,
)


@pytest.fixture
def toy_encoder(tmp_path, monkeypatch):
    """The folder of a dual encoder of a backbone `toy` that has just been entered."""
    monkeypatch.setitem(BACKBONES, "toy", TOY_BACKBONE)
    folder = tmp_path / "encoder"
    folder.mkdir()
    towers = {"text_config": dict(TEXT), "vision_config": dict(VISION)}
    (folder / "config.json").write_text(json.dumps({"model_type": "toy", "width": WIDTH, **towers}))
    torch.manual_seed(0)
    encoder = nn.ModuleDict(
        {
            "text_model": CLIPTextModel(CLIPTextConfig(**TEXT)),
            "vision_model": SiglipVisionModel(SiglipVisionConfig(**VISION)),
            "text_projection": nn.Linear(WIDTH, WIDTH, bias=False),
            "visual_projection": nn.Linear(WIDTH, WIDTH, bias=False),
        }
    )
    weights = {**encoder.state_dict(), "logit_scale": torch.tensor(2.0)}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def of_toy_encoder(folder, **fields) -> FrosterForVideoClassification:
    fields = {"temporal_module": "st_adapter", "num_frames": NUM_FRAMES, **fields}
    return FrosterForVideoClassification.from_dual_encoder(folder, **fields).eval()


def test_a_backbone_starts_as_its_towers_and_is_saved_and_loaded(toy_encoder, tmp_path):
    model = of_toy_encoder(toy_encoder)
    clips, texts = tiny_clips(2, 1), tiny_texts(3)
    with torch.no_grad():
        froster = model.froster
        images = froster.visual_projection(froster.vision_model(clips[:, 0], num_frames=1).pooler_output)
        words = froster.text_projection(froster.text_model(texts).pooler_output)
        expected = torch.tensor(2.0).exp() * nn.functional.cosine_similarity(images[:, None], words[None], dim=-1)
        torch.testing.assert_close(model(clips, input_ids=texts).logits, expected, atol=1e-5, rtol=0)
    model.save_pretrained(tmp_path / "saved")
    loaded = FrosterForVideoClassification.from_pretrained(tmp_path / "saved")
    assert loaded.config.backbone == "toy"
    assert "backbone | toy" in build_model_card(CardFacts("tiny"), config=loaded.config).text
    with torch.no_grad():
        assert torch.equal(loaded(clips, input_ids=texts).logits, model(clips, input_ids=texts).logits)


def test_a_backbone_is_distilled_explained_and_exported(toy_encoder, tmp_path):
    model = of_toy_encoder(toy_encoder)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    trainer = tiny_trainer(tmp_path / "run", model=model, teacher_checkpoint=str(toy_encoder), distillation="residual")
    trainer.train()
    assert {"loss_ce", "loss_distill_video", "loss_distill_text"} <= trainer.state.log_history[0].keys()
    assert not any(torch.equal(value, model.get_parameter(name)) for name, value in before.items() if "q_proj" in name)
    side = SIZE // VISION["patch_size"]
    relevance = attention_rollout(model.eval(), tiny_clips(1))
    assert relevance.shape == (NUM_FRAMES, side, side)
    reports = export_towers(model, tmp_path / "towers", formats=["torch_export"])
    assert all(report.max_difference < 1e-4 for report in reports)


def test_checkpoints_of_a_backbone_are_interpolated(toy_encoder, tmp_path):
    for name, scale in (("a", 1.0), ("b", 3.0)):
        model = of_toy_encoder(toy_encoder, temporal_module="none")
        with torch.no_grad():
            model.froster.logit_scale.fill_(scale)
        model.save_pretrained(tmp_path / name)
    interpolate(tmp_path / "a", tmp_path / "b", 0.5, output_dir=tmp_path / "out")
    halfway = FrosterForVideoClassification.from_pretrained(tmp_path / "out")
    assert halfway.froster.logit_scale == 2
    # The dual encoder itself is one end as well.
    interpolate(toy_encoder, tmp_path / "b", 0.5, output_dir=tmp_path / "between")
    between = FrosterForVideoClassification.from_pretrained(tmp_path / "between")
    assert between.froster.logit_scale == 2.5
