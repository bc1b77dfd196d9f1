"""What transformers checks on every model, for every temporal module and pooling."""

import copy
import inspect
import shutil
import sysconfig
from pathlib import Path

import pytest
import torch
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs

from froster_hf import FrosterForVideoClassification, FrosterModel
from froster_hf.modeling.tables_froster import TEMPORAL_MODULES
from tests.modeling.tiny import (
    ARCHITECTURES,
    MODULES,
    NUM_FRAMES,
    architecture_id,
    tiny_clips,
    tiny_config,
    tiny_model,
    tiny_texts,
)

every_architecture = pytest.mark.parametrize("fields", ARCHITECTURES, ids=architecture_id)
every_module = pytest.mark.parametrize("module", MODULES)
ATTENDS_TO_NEIGHBORS = [name for name, entry in TEMPORAL_MODULES.items() if entry.has_radius]
WITH_ADAPTERS = [name for name, entry in TEMPORAL_MODULES.items() if entry.adapter_divisor]
needs_compiler = pytest.mark.skipif(
    shutil.which("g++") is None or not Path(sysconfig.get_path("include"), "Python.h").is_file(),
    reason="torch compiles kernels with g++ and Python's headers: `apt-get install g++ python3-dev`",
)
TEXTS = {"input_ids": tiny_texts(), "num_prompts": 2}


def tokens_and_keys(module: str) -> tuple[int, int, int]:
    """Rows of the batch, queries and keys of the vision tower for two clips of 4 frames with 5 tokens each."""
    if module == "joint":
        return 2, 1 + NUM_FRAMES * 4, 1 + NUM_FRAMES * 4
    queries = 6 if module == "cross_frame" else 5
    return 2 * NUM_FRAMES, queries, 15 if module in ATTENDS_TO_NEIGHBORS else queries


@every_architecture
def test_saving_and_loading_changes_nothing(tmp_path, fields):
    model = tiny_model(**fields)
    model.save_pretrained(tmp_path)
    loaded, info = FrosterForVideoClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    assert not loaded.training
    with torch.no_grad():
        assert torch.equal(loaded(tiny_clips(), **TEXTS).logits, model(tiny_clips(), **TEXTS).logits)


@every_architecture
def test_the_base_model_and_the_classifier_load_each_others_checkpoints(tmp_path, fields):
    model = tiny_model(**fields)
    model.save_pretrained(tmp_path / "classifier")
    base, info = FrosterModel.from_pretrained(tmp_path / "classifier", output_loading_info=True)
    assert not info["missing_keys"]
    base.save_pretrained(tmp_path / "base")
    again, info = FrosterForVideoClassification.from_pretrained(tmp_path / "base", output_loading_info=True)
    assert not info["missing_keys"]
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)


@every_architecture
def test_fresh_weights_are_drawn_by_the_seed_and_finite(fields):
    first, second = (tiny_model(perturb=False, **fields).state_dict() for _ in range(2))
    assert len(first) > 50
    for name, value in first.items():
        assert torch.equal(value, second[name])
        assert value.isfinite().all()


def test_the_towers_are_drawn_as_transformers_draws_them():
    """The same scales as CLIPModel's, layer by layer: a registered class must not lose CLIP's own initialization."""
    from tests.modeling.tiny import tiny_clip

    ours, clip = tiny_model(perturb=False, temporal_module="none").froster.state_dict(), tiny_clip().state_dict()
    assert set(ours) == set(clip)
    for name, value in clip.items():
        if value.numel() > 500:
            assert ours[name].std().item() == pytest.approx(value.std().item(), rel=0.15), name
        elif value.numel() > 1 and value.std() == 0:
            assert torch.equal(ours[name], value)


@pytest.mark.parametrize("module", WITH_ADAPTERS)
def test_the_last_layer_of_every_adapter_starts_at_zero(module):
    state = tiny_model(perturb=False, temporal_module=module).state_dict()
    zeros = [name for name in state if "adapter" in name and "up_proj" in name]
    # One for each of the two blocks at least.
    assert len(zeros) >= 2
    assert all(not state[name].any() for name in zeros)
    assert all(state[name].any() for name in state if "down_proj.weight" in name)


@every_module
def test_hidden_states_come_from_every_layer(module):
    rows, _, _ = tokens_and_keys(module)
    outputs = tiny_model(temporal_module=module)(tiny_clips(), **TEXTS, output_hidden_states=True)
    assert len(outputs.hidden_states) == 3
    assert all(state.shape[0] == rows and state.shape[2] == 32 for state in outputs.hidden_states)
    assert outputs.attentions is None


@every_module
def test_attentions_come_once_a_layer_and_sum_to_one(module):
    model = tiny_model(temporal_module=module)
    model.set_attn_implementation("eager")
    outputs = model(tiny_clips(), **TEXTS, output_attentions=True)
    rows, queries, keys = tokens_and_keys(module)
    shapes = [(rows, 4, queries, keys)] * 2
    if module == "context_tokens":
        # From the second block on: one patch of each frame is context.
        shapes[1] = (rows, 4, queries, keys + NUM_FRAMES)
    assert [tuple(weights.shape) for weights in outputs.attentions] == shapes
    for weights in outputs.attentions:
        torch.testing.assert_close(weights.sum(-1), torch.ones(rows, 4, queries))
    assert outputs.hidden_states is None


@every_module
def test_returned_attentions_have_gradients(module):
    """As relevance methods need them: what is returned is what was used."""
    model = tiny_model(temporal_module=module)
    model.set_attn_implementation("eager")
    outputs = model(tiny_clips(), **TEXTS, output_attentions=True)
    gradients = torch.autograd.grad(outputs.logits[0, 0], outputs.attentions)
    assert all(gradient.any() for gradient in gradients)


@torch.no_grad()
@every_module
def test_features_follow_transformers_names(module):
    """`pooler_output` and `last_hidden_state`, which sentence-transformers and others look for."""
    model = tiny_model(temporal_module=module).froster
    video, text = model.get_video_features(tiny_clips()), model.get_text_features(tiny_texts())
    assert torch.equal(video.pooler_output, video.video_embeds)
    assert torch.equal(text.pooler_output, text.text_embeds)
    tokens = 1 + 4 * NUM_FRAMES if module == "joint" else 5 * NUM_FRAMES
    assert video.last_hidden_state.shape == (2, tokens, 32)
    assert text.last_hidden_state.shape == (6, 12, 32)


def test_keywords_of_the_call_are_annotated_as_transformers_annotates_them():
    for method in (FrosterModel.forward, FrosterModel.get_video_features, FrosterForVideoClassification.forward):
        assert inspect.signature(method).parameters["kwargs"].annotation == Unpack[TransformersKwargs]


def test_the_base_model_returns_states_of_both_towers():
    model = tiny_model().froster
    model.set_attn_implementation("eager")
    outputs = model(tiny_clips(), tiny_texts(2), output_hidden_states=True, output_attentions=True)
    assert len(outputs.text_hidden_states) == len(outputs.hidden_states) == 3
    assert len(outputs.text_attentions) == len(outputs.attentions) == 2


def test_outputs_can_be_tuples():
    model, clips = tiny_model(), tiny_clips()
    with torch.no_grad():
        as_tuple = model(clips, **TEXTS, labels=torch.tensor([0, 1]), return_dict=False)
        outputs = model(clips, **TEXTS, labels=torch.tensor([0, 1]))
    assert torch.equal(as_tuple[0], outputs.loss)
    assert torch.equal(as_tuple[1], outputs.logits)


@every_architecture
def test_a_training_step_gives_every_parameter_a_gradient(fields):
    model = tiny_model(**fields).train()
    model(tiny_clips(), **TEXTS, labels=torch.tensor([0, 2])).loss.backward()
    without = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert not without


@every_module
def test_training_on_one_batch_lowers_the_loss(module):
    model = tiny_model(temporal_module=module).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(5):
        loss = model(tiny_clips(), **TEXTS, labels=torch.tensor([0, 2])).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


@every_module
def test_gradient_checkpointing_gives_the_same_gradients(module):
    gradients = []
    for checkpointing in (False, True):
        model = tiny_model(temporal_module=module).train()
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
            assert model.is_gradient_checkpointing
        model(tiny_clips(), **TEXTS, labels=torch.tensor([0, 2])).loss.backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-6, rtol=1e-5)


@every_module
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_runs_and_stays_near(tmp_path, module, dtype):
    reference = tiny_model(temporal_module=module)
    reference.save_pretrained(tmp_path)
    model = FrosterForVideoClassification.from_pretrained(tmp_path, dtype=dtype)
    assert model.dtype == dtype
    with torch.no_grad():
        logits = model(tiny_clips(), **TEXTS).logits
        expected = reference(tiny_clips(), **TEXTS).logits
    assert logits.dtype == dtype
    torch.testing.assert_close(logits.float(), expected, atol=0.15 if dtype == torch.bfloat16 else 0.02, rtol=0)


@every_architecture
@torch.no_grad()
def test_eager_and_sdpa_agree(fields):
    model = tiny_model(**fields)
    logits = {}
    for implementation in ("eager", "sdpa"):
        model.set_attn_implementation(implementation)
        assert model.froster.vision_model.config._attn_implementation == implementation
        logits[implementation] = model(tiny_clips(), **TEXTS).logits
    torch.testing.assert_close(logits["eager"], logits["sdpa"], atol=1e-5, rtol=0)


@pytest.mark.slow  # a minute of compiling
@pytest.mark.parametrize("module", MODULES)
@needs_compiler
@torch.no_grad()
def test_flex_attention_agrees(module):
    """Compiles a kernel for every shape; the other modules run with the slow tests."""
    model = tiny_model(temporal_module=module)
    expected = model(tiny_clips(), **TEXTS).logits
    model.set_attn_implementation("flex_attention")
    torch.testing.assert_close(model(tiny_clips(), **TEXTS).logits, expected, atol=1e-5, rtol=0)


@pytest.mark.gpu
@every_module
@torch.no_grad()
def test_flash_attention_agrees_on_a_gpu(module):
    pytest.importorskip("flash_attn")
    model = tiny_model(temporal_module=module).to("cuda", torch.bfloat16)
    clips, texts = tiny_clips().to("cuda", torch.bfloat16), tiny_texts().to("cuda")
    expected = model(clips, input_ids=texts).logits
    model.set_attn_implementation("flash_attention_2")
    torch.testing.assert_close(model(clips, input_ids=texts).logits, expected, atol=0.1, rtol=0)


class VideoTower(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, pixel_values_videos):
        return self.model.get_video_features(pixel_values_videos).video_embeds


@every_module
@torch.no_grad()
def test_the_graph_is_captured_whole(module):
    """`fullgraph` fails on any graph break, and on any value that is read back to the host."""
    tower = VideoTower(tiny_model(temporal_module=module).froster).eval()
    expected = tower(tiny_clips())
    torch._dynamo.reset()
    compiled = torch.compile(tower, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(tiny_clips()), expected, atol=1e-6, rtol=0)


@torch.no_grad()
def test_the_graph_of_both_towers_is_captured_whole():
    """What the modules have in common: the texts, the average of their prompts, and the logits."""
    model = tiny_model()
    expected = model(tiny_clips(), **TEXTS).logits
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(tiny_clips(), **TEXTS).logits, expected, atol=1e-5, rtol=0)


@pytest.mark.slow
@needs_compiler
@every_architecture
@torch.no_grad()
def test_inductor_compiles_it(fields):
    model = tiny_model(**fields)
    expected = model(tiny_clips(), **TEXTS).logits
    torch._dynamo.reset()
    # An LSTM of PyTorch breaks the graph: Dynamo leaves it as it is, and compiles what is around it.
    compiled = torch.compile(model, fullgraph=fields.get("temporal_pooling") != "lstm")
    torch.testing.assert_close(compiled(tiny_clips(), **TEXTS).logits, expected, atol=1e-4, rtol=0)


@every_module
@torch.no_grad()
def test_export_takes_any_batch_size_and_where_possible_any_frame_count(module):
    tower = VideoTower(tiny_model(temporal_module=module).froster).eval()
    batch = torch.export.Dim("batch", min=1, max=64)
    entry = TEMPORAL_MODULES[module]
    is_fixed = entry.fixed_frames or entry.loops_over_frames
    frames = None if is_fixed else torch.export.Dim("frames", min=2, max=64)
    exported = torch.export.export(tower, (tiny_clips(2, NUM_FRAMES),), dynamic_shapes=({0: batch, 1: frames},))
    for batch_size, num_frames in ((1, NUM_FRAMES), (3, NUM_FRAMES if is_fixed else 7)):
        clips = tiny_clips(batch_size, num_frames)
        torch.testing.assert_close(exported.module()(clips), tower(clips), atol=1e-5, rtol=0)


@every_module
def test_lora_adapters_train_alone(module):
    pytest.importorskip("peft")
    from peft import LoraConfig

    model = tiny_model(temporal_module=module)
    with torch.no_grad():
        before = model(tiny_clips(), **TEXTS).logits
    model.add_adapter(LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    with torch.no_grad():
        torch.testing.assert_close(model(tiny_clips(), **TEXTS).logits, before, atol=1e-6, rtol=0)
    model(tiny_clips(), **TEXTS, labels=torch.tensor([0, 2])).loss.backward()
    trained = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert trained
    assert all("lora_" in name for name in trained)


def test_device_map_auto_places_the_model(tmp_path):
    model = tiny_model(temporal_module="local_attention")
    model.save_pretrained(tmp_path)
    placed = FrosterForVideoClassification.from_pretrained(tmp_path, device_map="auto")
    with torch.no_grad():
        assert torch.equal(placed(tiny_clips().to(placed.device), **TEXTS).logits, model(tiny_clips(), **TEXTS).logits)


@every_module
def test_a_model_spread_by_accelerate_gives_the_same_outputs(tmp_path, module):
    """No layer class may be split, and hooks must reach every weight.

    In double precision: hooked MLPs are computed as transformers does, others in one pass, and logits are a hundred
    times as far apart as the rounding of their cosines.
    """
    from accelerate import cpu_offload

    model = tiny_model(temporal_module=module).double()
    clips = tiny_clips().double()
    with torch.no_grad():
        expected = model(clips, **TEXTS).logits
        offloaded = cpu_offload(copy.deepcopy(model), execution_device=torch.device("cpu"))
        torch.testing.assert_close(offloaded(clips, **TEXTS).logits, expected, atol=1e-10, rtol=0)


def test_token_embeddings_can_be_resized():
    model = tiny_model().froster
    before = model.get_text_features(tiny_texts()).text_embeds
    model.resize_token_embeddings(120)
    assert model.text_model.embeddings.token_embedding.weight.shape[0] == 120
    torch.testing.assert_close(model.get_text_features(tiny_texts()).text_embeds, before)


@torch.no_grad()
def test_other_sizes_work_with_interpolated_positions():
    model = tiny_model().froster
    clips = torch.randn(1, 3, 3, 24, 24)
    with pytest.raises(ValueError, match="24"):
        model.get_video_features(clips)
    assert model.get_video_features(clips, interpolate_pos_encoding=True).frame_embeds.shape == (1, 3, 32)


def test_large_checkpoints_are_sharded_and_load(tmp_path):
    model = tiny_model()
    model.save_pretrained(tmp_path, max_shard_size="50KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    loaded = FrosterForVideoClassification.from_pretrained(tmp_path)
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)


def test_the_configuration_makes_the_same_model_again(tmp_path):
    config = tiny_config(temporal_module="aim", adapter_size=3, temporal_pooling="lstm")
    config.save_pretrained(tmp_path)
    again = type(config).from_pretrained(tmp_path)
    assert again.to_json_string() == config.to_json_string()
    shapes = [{n: p.shape for n, p in FrosterModel(c).named_parameters()} for c in (config, again)]
    assert shapes[0] == shapes[1]
