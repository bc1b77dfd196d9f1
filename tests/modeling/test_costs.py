"""Sizes that are allowed one by one may not multiply beyond all models, and those of published ones are taken."""

import pytest
import torch
from transformers import CLIPConfig, PreTrainedModel, SiglipConfig

from froster_hf import FrosterConfig, FrosterForVideoClassification
from froster_hf.modeling.configuration_froster import (
    TEXTS_AT_ONCE,
    estimate_parameters,
    read_dual_encoder_config,
    refuse_many_new_parameters,
)
from froster_hf.modeling.tables_froster import TEMPORAL_MODULES
from froster_hf.processing.processing_froster import TEXTS_PER_BATCH
from tests.modeling.tiny import ARCHITECTURES, architecture_id, tiny_config


@pytest.mark.parametrize(
    "fields",
    [
        {"vision_config": {"num_hidden_layers": 256, "hidden_size": 16_384, "num_attention_heads": 256}},
        {"vision_config": {"image_size": 2048, "patch_size": 1, "hidden_size": 12_288}},
        {"text_config": {"vocab_size": 2_000_000, "hidden_size": 16_384}},
    ],
)
def test_sizes_that_multiply_beyond_all_models_are_refused(fields):
    with pytest.raises(ValueError, match="parameters; at most"):
        FrosterConfig(**fields)


NEW_PARTS = [
    {"temporal_pooling": "transformer", "projection_dim": 2048},
    {"temporal_module": "st_adapter", "adapter_size": 8192},
]


@pytest.mark.parametrize("fields", NEW_PARTS)
def test_more_new_parameters_than_are_put_into_a_model_of_its_size_are_refused(tmp_path, fields, monkeypatch):
    shared = {"hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 2}
    width = fields.get("projection_dim", 16)
    clip = CLIPConfig(text_config=shared, vision_config=shared | {"num_hidden_layers": 256}, projection_dim=width)
    clip.save_pretrained(tmp_path)

    def built(*args, **kwargs):
        raise AssertionError("built")

    monkeypatch.setattr(PreTrainedModel, "from_pretrained", built)
    fields = {name: value for name, value in fields.items() if name != "projection_dim"}
    with pytest.raises(ValueError, match=r"About .* new parameters would be put into the model; .* at most 1\.3e\+08"):
        FrosterForVideoClassification.from_clip(tmp_path, **fields)
    with pytest.raises(AssertionError, match="built"):
        FrosterForVideoClassification.from_clip(tmp_path, temporal_module="none")


def test_new_parameters_of_published_sizes_are_taken():
    large = {
        "text_config": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12},
        "vision_config": {
            **{"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "patch_size": 14},
            "num_attention_heads": 16,
        },
        "projection_dim": 768,
    }
    for fields in ({"temporal_pooling": "transformer"}, {"temporal_module": "st_adapter", "adapter_size": 512}):
        config = FrosterConfig(**large, **fields)
        refuse_many_new_parameters(config)
        # Low-rank updates of rank 256: of queries, keys, values and outputs.
        refuse_many_new_parameters(config, num_others=256 * 2 * 4 * (24 * 1024 + 12 * 768))
        with pytest.raises(ValueError, match=r"About .* new parameters would be put into the model"):
            refuse_many_new_parameters(config, num_others=10**9)


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=architecture_id)
def test_the_estimate_of_parameters_is_never_far_too_low_nor_far_too_high(architecture):
    config = tiny_config(**architecture, adapter_size=5, num_labels=3)
    config.text_config.vocab_size, config.vision_config.image_size = 2000, 224
    real = sum(tensor.numel() for tensor in FrosterForVideoClassification(config).state_dict().values())
    assert 0.8 * real < estimate_parameters(config) < 3 * real


@pytest.mark.parametrize(
    "fields",
    [
        {"vision_config": {"image_size": 2048, "patch_size": 1, "hidden_size": 12}},
        {"vision_config": {"image_size": 1024, "patch_size": 4, "num_attention_heads": 256}},
        {"vision_config": {"image_size": 128, "patch_size": 1}, "temporal_module": "joint", "num_frames": 100},
        {"vision_config": {"image_size": 224, "patch_size": 4}, "temporal_radius": 256},
    ],
    ids=["patches", "heads", "patches and frames", "patches and frames around"],
)
def test_attention_beyond_all_models_is_refused(fields):
    with pytest.raises(ValueError, match=r", 1 of them per video, has .* scores of attention; a model of this size"):
        FrosterConfig(**fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"temporal_module": "context_tokens", "num_frames": 150, "vision_config": {"image_size": 64, "patch_size": 2}},
        {"temporal_module": "context_tokens", "num_frames": 70, "vision_config": {"image_size": 64, "patch_size": 2}},
        {"temporal_module": "aim", "num_frames": 8_000, "vision_config": {"num_hidden_layers": 100}},
        {"temporal_module": "cross_frame", "num_frames": 8_000, "vision_config": {"num_hidden_layers": 100}},
        {"temporal_pooling": "transformer", "num_frames": 1000, "pooling_num_heads": 256},
        {"temporal_pooling": "transformer_cls", "num_frames": 10_000},
    ],
    ids=["seeds", "steps of merging", "times", "messages", "heads of a pooling", "frames of a pooling"],
)
def test_matrices_beyond_all_models_are_refused(fields):
    small = {"hidden_size": 16, "intermediate_size": 4, "num_hidden_layers": 2, "num_attention_heads": 1}
    towers = {"text_config": small | {"vocab_size": 99}, "vision_config": small | fields.get("vision_config", {})}
    with pytest.raises(ValueError, match=r"a model of this size .* frames or clips are far too large"):
        FrosterConfig(**(fields | towers | {"projection_dim": 256}))


@pytest.mark.parametrize(
    "fields",
    [
        {"num_frames": 200, "vision_config": {"intermediate_size": 4096}},
        {"num_frames": 200, "vision_config": {"hidden_size": 1024}},
        {"num_frames": 200, "temporal_module": "st_adapter", "adapter_size": 8192},
        {
            "num_frames": 1,
            "temporal_module": "local_attention",
            "temporal_radius": 256,
            "vision_config": {"hidden_size": 256},
        },
        {"num_frames": 5000, "projection_dim": 4096},
        {"text_config": {"intermediate_size": 65_536}},
    ],
    ids=["MLP", "queries, keys and values", "adapters", "frames around", "embeddings", "texts"],
)
def test_tensors_beyond_all_models_are_refused(fields):
    small = {"hidden_size": 16, "intermediate_size": 4, "num_hidden_layers": 2, "num_attention_heads": 1}
    towers = {
        "text_config": small | {"vocab_size": 99} | fields.get("text_config", {}),
        "vision_config": small | {"image_size": 64, "patch_size": 2} | fields.get("vision_config", {}),
    }
    with pytest.raises(ValueError, match=r"has .* numbers in a tensor; a model of this size has at most"):
        FrosterConfig(**({"temporal_module": "none", "projection_dim": 16} | fields | towers))


def test_as_many_texts_are_counted_as_the_processor_has_encoded_together():
    """Neither of the two may import the other."""
    assert TEXTS_AT_ONCE == TEXTS_PER_BATCH


def test_tokens_beyond_all_models_are_refused():
    """Each of them goes through all layers."""
    towers = {
        "text_config": {"hidden_size": 16, "intermediate_size": 4, "num_hidden_layers": 2, "vocab_size": 99},
        "vision_config": {
            "image_size": 64,
            "patch_size": 2,
            "hidden_size": 64,
            "intermediate_size": 64,
            "num_hidden_layers": 24,
            "num_attention_heads": 1,
        },
    }
    config = FrosterConfig(**towers, temporal_module="none", projection_dim=16, num_frames=127)
    with pytest.raises(
        ValueError, match=r"^A clip of 256 frames of 1024 patches, 1 of them per video, has 2\.6e\+05 tokens; a model"
    ):
        config.costs(256).check()
    config.costs(127).check(num_clips=16)
    with pytest.raises(ValueError, match=r", 17 of them per video, has 1\.3e\+05 tokens; .* has at most 1\.2e\+05"):
        config.costs(127).check(num_clips=17)


def test_what_a_configuration_says_of_parts_that_it_lacks_makes_no_model_larger():
    plain, more = (
        tiny_config(temporal_module="none"),
        tiny_config(temporal_module="none", adapter_size=8192, num_frames=10_000),
    )
    assert estimate_parameters(more) == estimate_parameters(plain)


def test_padded_texts_beyond_all_models_are_refused():
    siglip = SiglipConfig().to_dict()
    siglip["text_config"]["max_position_embeddings"] = 4096
    with pytest.raises(ValueError, match="A text, which is padded to 4096 tokens, has"):
        FrosterConfig.from_dual_encoder_config(read_dual_encoder_config(siglip))


LARGE = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
GIANT = {"hidden_size": 1536, "intermediate_size": 6144, "num_hidden_layers": 40, "num_attention_heads": 16}


@pytest.mark.parametrize("module", TEMPORAL_MODULES)
@pytest.mark.parametrize(
    "vision",
    [{**LARGE, "image_size": 336, "patch_size": 14}, {**GIANT, "image_size": 384, "patch_size": 16}],
    ids=["ViT-L/14 at 336 pixels", "SigLIP 2's giant at 384 pixels"],
)
def test_the_longest_clips_and_largest_frames_are_allowed(module, vision):
    config = FrosterConfig(vision_config=vision, temporal_module=module, num_frames=64, temporal_radius=16)
    config.costs(64).check(num_clips=12)
    FrosterConfig(vision_config={**vision, "image_size": 1024}, temporal_module=module, num_frames=8)


def test_the_largest_published_towers_are_allowed():
    big = {"hidden_size": 5120, "intermediate_size": 25_600, "num_hidden_layers": 48, "num_attention_heads": 40}
    config = FrosterConfig(vision_config={**big, "patch_size": 14}, projection_dim=1536)
    assert (config.vision_config.hidden_size, config.vision_config.num_hidden_layers) == (5120, 48)


def small_config(vision=None, text=None, **fields):
    """Of a file of less than 10 MB."""
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 1}
    vision = small | {"image_size": 8, "patch_size": 8} | (vision or {})
    return FrosterConfig(
        text_config=small | {"vocab_size": 99} | (text or {}),
        vision_config=vision,
        **({"temporal_module": "none", "projection_dim": 16} | fields),
    )


def test_pixels_beyond_all_models_are_refused():
    config = small_config({"image_size": 256, "patch_size": 64}, num_frames=64)
    config.costs(64).check(num_clips=5)
    assert config.costs(64).videos_at_once(2) == 2
    with pytest.raises(ValueError, match=r"6 of them per video, has 7\.5e\+07 pixel values; a model of this size"):
        config.costs(64).check(num_clips=6)


def test_the_context_of_frames_of_few_patches_is_counted():
    with pytest.raises(ValueError, match="numbers in a tensor; a model of this size has at most"):
        small_config(
            {"hidden_size": 256, "num_attention_heads": 256}, temporal_module="context_tokens", num_frames=2000
        )


def test_embeddings_of_many_videos_are_not_computed_together():
    config = small_config(projection_dim=4096)
    assert config.costs(64).videos_at_once(2) == 2**26 // (2 * 64 * 4096)


def test_in_double_precision_half_as_many_numbers_are_allowed():
    config = small_config()
    single = config.costs(8)
    allowed = single.clips_at_once, single.most_kept, single.most_mapped, single.videos_at_once(1)
    config.dtype = "float64"
    double = config.costs(8)
    assert (double.clips_at_once, double.most_kept, double.most_mapped, double.videos_at_once(1)) == tuple(
        number // 2 for number in allowed
    )


@pytest.mark.parametrize(
    ("without", "fields"),
    [
        ({}, {"vision": {"image_size": 64, "patch_size": 4, "attention_dropout": 0.1}}),
        ({"temporal_pooling": "mean"}, {"temporal_pooling": "transformer"}),
        ({"temporal_pooling": "mean"}, {"temporal_pooling": "transformer_cls"}),
    ],
    ids=["dropout of attention", "transformer", "transformer_cls"],
)
def test_scores_that_are_kept_for_a_backward_pass_are_counted(without, fields):
    """As torch keeps them."""
    fields = {"num_frames": 64, "pooling_num_layers": 3, "pooling_num_heads": 16} | fields
    config = small_config(**fields)
    without = small_config(**(fields | without | {"vision": fields.get("vision", {}) | {"attention_dropout": 0.0}}))
    added = kept_by_torch(config) - kept_by_torch(without)
    counted = config.costs(64).kept_numbers(2) - without.costs(64).kept_numbers(2)
    assert 0.9 * added < counted < 12 * added


@pytest.mark.parametrize(
    "fields",
    [
        {"temporal_module": "st_adapter", "adapter_size": 256},
        {"temporal_module": "motion_adapter", "adapter_size": 256},
        {"temporal_module": "adaptformer", "adapter_size": 256},
        {"temporal_module": "aim", "adapter_size": 256},
        {"temporal_module": "context_tokens", "vision": {"image_size": 16}},
        {"vision": {"image_size": 64, "attention_dropout": 0.1}},
        {"temporal_pooling": "lstm", "projection_dim": 256},
        {"temporal_pooling": "transformer", "pooling_num_heads": 16},
        {"temporal_pooling": "transformer_cls", "pooling_num_heads": 16},
        {"projection_dim": 1024},
    ],
    ids=lambda fields: "-".join(map(str, fields.values())),
)
def test_what_a_clip_holds_beside_its_blocks_is_counted(fields):
    """As torch keeps it, and no more: what is counted is refused where it does not fit into memory."""
    fields = {"num_frames": 32, "pooling_num_layers": 3} | fields
    fields["vision"] = {"num_hidden_layers": 4, "patch_size": 4} | fields.get("vision", {})
    plain = {"temporal_module": "none", "temporal_pooling": "mean", "projection_dim": 16}
    vision = fields["vision"] | {"attention_dropout": 0.0}
    config, without = small_config(**fields), small_config(**(fields | plain | {"vision": vision}))
    added = kept_by_torch(config) - kept_by_torch(without)
    held, held_without = (entry.costs(32).held_numbers(4, is_trained=True) for entry in (config, without))
    # Beside what is kept: the gradients of the embeddings.
    assert 0.3 * added < held - held_without < added + 5 * config.costs(32).embed_numbers
    assert config.costs(32).held_numbers(0, is_trained=False) < held


def test_gradients_of_windows_are_counted_once():
    """Neighboring windows share their memory, and their gradients do not."""
    wide, narrow = (
        small_config(temporal_module="local_attention", temporal_radius=radius, num_frames=64) for radius in (100, 1)
    )
    one_token = 64 * wide.vision_config.hidden_size * 2
    for num_layers in (1, 2):
        added = wide.costs(64).kept_numbers(num_layers) - narrow.costs(64).kept_numbers(num_layers)
        assert added >= 2 * (201 - 3) * one_token
    assert wide.costs(64).kept_numbers(0) == 0
    assert small_config(num_frames=64).costs(64).window_numbers == 0


def kept_by_torch(config):
    """Numbers that a forward pass of a clip leaves for a backward pass."""
    model, size = FrosterForVideoClassification(config).train(), config.vision_config.image_size
    kept = {}

    def note(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes() / 4
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        # Held until all are counted: another may be put in the place of one that is gone.
        held = model.froster.get_video_features(torch.zeros(1, config.num_frames, 3, size, size))
    assert held.video_embeds.requires_grad
    own = {parameter.data_ptr() for parameter in model.parameters()}
    return sum(number for place, number in kept.items() if place not in own)
