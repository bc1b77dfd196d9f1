"""The same numbers with less work: the last block where it is read, one-pass MLPs, shared beginnings of texts.

In double precision, in which other orders of summation differ by less than any of these tests allow.
"""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import CLIPTextConfig
from transformers.models.clip.modeling_clip import CLIPMLP

from froster_hf.modeling import layers_froster, modeling_froster
from froster_hf.modeling.configuration_froster import Costs
from tests.modeling.tiny import ARCHITECTURES, END, architecture_id, tiny_clips, tiny_model, tiny_texts

EXACT = {"atol": 1e-12, "rtol": 1e-9}
REDUCED = pytest.mark.parametrize("fields", ARCHITECTURES, ids=architecture_id)


def double_model(**fields):
    return tiny_model(**fields).double()


def clips() -> torch.Tensor:
    return tiny_clips().double()


def count_rows(model, part: str, call) -> int:
    """Rows that go through a linear layer of the last block while `call` runs."""
    layer = model.get_submodule(part)
    rows = []
    unwatched = layer.__class__

    class Counted(unwatched):
        def forward(self, tokens):
            rows.append(tokens.shape[:-1].numel())
            return super().forward(tokens)

    layer.__class__ = Counted
    try:
        call()
    finally:
        layer.__class__ = unwatched
    return sum(rows)


@REDUCED
def test_many_clips_are_computed_one_after_the_other(fields, monkeypatch):
    model = double_model(**fields).eval().froster
    many = torch.cat([clips(), clips().flip(0), clips()])

    @torch.no_grad()
    def embed():
        return model.get_video_features(many, only_embeds=True)

    together = embed()
    monkeypatch.setattr(Costs, "clips_at_once", 4)
    apart = embed()
    assert together.keys() == apart.keys()
    for name, values in together.items():
        torch.testing.assert_close(apart[name], values, **EXACT)
    calls = []
    model.vision_model.embeddings.register_forward_hook(lambda *_: calls.append(1))
    embed()
    assert len(calls) == 2


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@REDUCED
def test_embeddings_are_those_of_the_whole_tower_in_values_and_gradients(fields, attention):
    found = []
    for only_embeds in (False, True):
        model = double_model(**fields).train()
        model.set_attn_implementation(attention)
        features = model.froster.get_video_features(clips(), only_embeds=only_embeds)
        assert (features.last_hidden_state is None) == only_embeds
        (features.frame_embeds.sin().sum() + features.video_embeds.cos().sum()).backward()
        gradients = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
        found.append((features.frame_embeds, features.video_embeds, gradients))
    for whole, read in zip(found[0][:2], found[1][:2]):
        torch.testing.assert_close(read, whole, **EXACT)
    assert found[0][2].keys() == found[1][2].keys()
    for name, gradient in found[0][2].items():
        torch.testing.assert_close(found[1][2][name], gradient, **EXACT, msg=name)


@REDUCED
def test_the_last_block_is_evaluated_at_the_class_tokens_alone(fields):
    model = double_model(**fields).froster
    last = "vision_model.encoder.layers.1"
    frames = 2 if fields["temporal_module"] == "joint" else clips().shape[:2].numel()
    for part in ("mlp.fc2", "self_attn.out_proj"):
        passes = 1 if part == "mlp.fc2" or fields["temporal_module"] != "aim" else None
        rows = count_rows(model, f"{last}.{part}", lambda: model.get_video_features(clips(), only_embeds=True))
        if passes is not None:
            assert rows == frames
        assert count_rows(model, f"{last}.{part}", lambda: model.get_video_features(clips())) > rows


@pytest.mark.parametrize("name", ["output_hidden_states", "output_attentions"])
def test_what_is_recorded_is_the_whole_towers(name):
    model = double_model().froster
    model.set_attn_implementation("eager")
    recorded = model(clips(), tiny_texts(), num_prompts=2, **{name: True})
    whole = model.get_video_features(clips(), **{name: True})
    for found, expected in zip(recorded[name.removeprefix("output_")], whole[name.removeprefix("output_")]):
        torch.testing.assert_close(found, expected, **EXACT)
    # Once the hooks of the recording are there, nothing is slower than before.
    rows = count_rows(model, "vision_model.encoder.layers.1.mlp.fc1", lambda: model(clips(), tiny_texts()))
    assert rows == clips().shape[:2].numel()
    setattr(model.config.vision_config, name, True)
    assert model(clips(), tiny_texts(), num_prompts=2)[name.removeprefix("output_")] is not None


@pytest.mark.parametrize("register", ["register_forward_hook", "register_forward_pre_hook"])
@pytest.mark.parametrize(
    "part", ["vision_model", "vision_model.encoder.layers.1", "vision_model.encoder.layers.1.mlp"]
)
def test_hooks_see_what_they_expect(part, register):
    model = double_model().froster
    expected = model(clips(), tiny_texts()).logits_per_video
    seen = []
    getattr(model.get_submodule(part), register)(lambda module, inputs, *outputs: seen.append((inputs, outputs)))
    torch.testing.assert_close(model(clips(), tiny_texts()).logits_per_video, expected, **EXACT)
    assert len(seen) == 1
    if part.endswith("mlp"):
        assert seen[0][0][0].shape[1] == 5  # every token of the frame


def test_a_replaced_forward_is_called():
    model = double_model().froster
    last = model.vision_model.encoder.layers[-1]
    last.forward = lambda *inputs, **options: 2 * type(last).forward(last, *inputs, **options)
    changed = model.get_video_features(clips(), only_embeds=True).video_embeds
    torch.testing.assert_close(changed, model.get_video_features(clips()).video_embeds, **EXACT)


def test_an_attention_that_cannot_be_read_in_part_is_computed_in_full():
    model = double_model(temporal_module="local_attention").froster
    last = model.vision_model.encoder.layers[-1]

    class Other(type(last.self_attn)):
        def forward(self, hidden_states, attention_mask=None, *, num_frames, **kwargs):
            assert "num_read" not in kwargs
            output, weights = super().forward(hidden_states, num_frames=num_frames, **kwargs)
            return output.flip(1), weights

    last.self_attn.__class__ = Other
    found = model.get_video_features(clips(), only_embeds=True).frame_embeds
    torch.testing.assert_close(found, model.get_video_features(clips()).frame_embeds, **EXACT)


def mlps(dtype=torch.float64, activation="quick_gelu") -> tuple[CLIPMLP, CLIPMLP]:
    """CLIP's MLP and the same in one pass."""
    torch.manual_seed(0)
    config = CLIPTextConfig(hidden_size=8, intermediate_size=32, hidden_act=activation)
    plain = CLIPMLP(config).to(dtype)
    return plain, layers_froster.OnePassMLP(copy.deepcopy(plain))


def is_one_pass(mlp, tokens) -> bool:
    """Whether the activation module is left out."""
    calls = []
    kind = type(mlp.activation_fn)

    class Counted(kind):
        def forward(self, given):
            calls.append(given)
            return super().forward(given)

    mlp.activation_fn.__class__ = Counted
    mlp(tokens)
    mlp.activation_fn.__class__ = kind
    return not calls


@pytest.mark.parametrize("shape", [(3, 8), (2, 5, 8), (8,), (2, 1500, 8)])
def test_one_pass_gives_clips_numbers(shape):
    plain, one_pass = mlps()
    tokens = torch.randn(shape, dtype=torch.float64)
    with torch.no_grad():
        assert is_one_pass(one_pass, tokens)
        torch.testing.assert_close(one_pass(tokens), plain(tokens), **EXACT)
    assert plain.state_dict().keys() == one_pass.state_dict().keys()


@pytest.mark.parametrize("frozen", [[], ["fc1"], ["fc2"], ["fc1", "fc2"]])
def test_one_pass_gives_clips_gradients(frozen):
    gradients = []
    for mlp in mlps():
        for name in frozen:
            mlp.get_submodule(name).requires_grad_(False)
        tokens = torch.randn(2, 5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        tokens.requires_grad_()
        mlp(tokens).sin().sum().backward()
        gradients.append([tokens.grad, *(parameter.grad for parameter in mlp.parameters())])
    for plain, one_pass in zip(*gradients):
        assert (plain is None) == (one_pass is None)
        if plain is not None:
            torch.testing.assert_close(one_pass, plain, **EXACT)


def test_one_pass_is_differentiable_twice_and_in_batches():
    _, one_pass = mlps()
    tokens = torch.randn(3, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(one_pass, (tokens,))
    row_gradients = torch.func.vmap(torch.func.grad(lambda row: one_pass(row).sum()))(tokens.detach())
    (expected,) = torch.autograd.grad(one_pass(tokens).sum(), tokens)
    torch.testing.assert_close(row_gradients, expected, **EXACT)


def test_one_pass_keeps_a_third_of_the_wide_activations():
    kept = []
    for mlp in mlps():
        wide = set()

        def note(tensor, wide=wide):
            if tensor.shape[-1] == 32 and tensor.shape[0] == 7:
                wide.add(tensor.data_ptr())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            output = mlp(torch.randn(7, 8, dtype=torch.float64))
        kept.append(len(wide))
        del output
    assert kept == [3, 1]


def hooked(mlp):
    mlp.fc1.register_forward_hook(lambda *_: None)


def with_other_layers(mlp):
    class Other(nn.Linear):
        pass

    mlp.fc2.__class__ = Other


@pytest.mark.parametrize("change", [hooked, with_other_layers])
def test_layers_that_are_watched_or_others_are_called(change):
    plain, one_pass = mlps()
    tokens = torch.randn(4, 8, dtype=torch.float64)
    change(one_pass)
    assert not is_one_pass(one_pass, tokens)
    torch.testing.assert_close(one_pass(tokens), plain(tokens), **EXACT)


def test_other_activations_and_precisions_are_clips_own():
    assert not is_one_pass(mlps(activation="gelu")[1], torch.randn(4, 8, dtype=torch.float64))
    assert not is_one_pass(mlps(torch.bfloat16)[1], torch.randn(4, 8, dtype=torch.bfloat16))
    _, one_pass = mlps(torch.float32)
    assert is_one_pass(one_pass, torch.randn(4, 8))
    with torch.autocast("cpu", torch.bfloat16):
        assert not is_one_pass(one_pass, torch.randn(4, 8))


def padded(texts: list[list[int]]) -> torch.Tensor:
    ids = torch.zeros(len(texts), 20, dtype=torch.long)
    for row, text in enumerate(texts):
        ids[row, : len(text) + 2] = torch.tensor([98, *text, END])
    return ids


TEXTS = st.lists(st.lists(st.integers(1, 3), max_size=12), min_size=1, max_size=9)


@settings(max_examples=60)
@given(texts=TEXTS, chunk_size=st.integers(1, 10))
def test_texts_that_begin_alike_are_encoded_as_if_each_were_alone(texts, chunk_size):
    model = double_model().froster
    ids = padded(texts)
    with torch.no_grad():
        found = model.get_label_embeds(ids, chunk_size=chunk_size)
        expected = torch.cat([model.get_text_features(text[None]).text_embeds for text in ids])
        torch.testing.assert_close(found, expected, **EXACT)
        torch.testing.assert_close(model.get_text_features(ids, only_embeds=True).text_embeds, expected, **EXACT)


@settings(max_examples=60)
@given(texts=TEXTS)
def test_every_distinct_beginning_is_computed_once(texts):
    ids = padded(texts)
    _, (chunk,) = modeling_froster.sort_and_share(ids, END, chunk_size=len(ids))
    rows = [[98, *text, END] for text in texts]
    beginnings = {tuple(row[:length]) for row in rows for length in range(1, len(row) + 1)}
    assert len(chunk.tokens) == len(beginnings)


def test_gradients_go_through_what_texts_share():
    gradients = []
    ids = padded([[1, 2, 3], [1, 2, 4], [1, 2], [1, 2, 3], [5]])
    for chunk_size in (None, 2, 100):
        model = double_model().froster
        model.get_label_embeds(ids, chunk_size=chunk_size).sin().sum().backward()
        gradients.append({name: value.grad for name, value in model.text_model.named_parameters()})
    for name, gradient in gradients[0].items():
        for shared in gradients[1:]:
            torch.testing.assert_close(shared[name], gradient, **EXACT, msg=name)


def test_ten_thousand_labels_with_templates_share_most_of_their_tokens_a_chunk_at_a_time():
    rng = np.random.default_rng(0)
    templates = [rng.integers(1, 90, size=8) for _ in range(4)]
    labels = [rng.integers(1, 90, size=rng.integers(1, 5)) for _ in range(2500)]
    ids = padded([[*template, *label] for label in labels for template in templates])
    order, chunks = modeling_froster.sort_and_share(ids, END, chunk_size=256)
    assert sorted(order.tolist()) == list(range(len(ids)))
    tokens = sum(len(chunk.tokens) for chunk in chunks)
    assert tokens < 0.4 * int((ids > 0).sum())
    # What is laid out for the attention does not grow with the list.
    assert max(chunk.sees.numel() for chunk in chunks) < 256 * 3 * 20 * 20


def test_long_texts_among_short_ones_are_laid_out_in_few_rows():
    ids = padded([[number + 1, *[2] * 17] for number in range(9)] + [[50, number + 1] for number in range(30)])
    _, (chunk,) = modeling_froster.sort_and_share(ids, END, chunk_size=len(ids))
    assert len(chunk.paths) <= 5 * 9 + 30


def test_beginnings_of_long_texts_are_not_shared(monkeypatch):
    model, ids = double_model().froster, padded([[1, 2, 3], [1, 2, 4]])
    expected = model.get_label_embeds(ids, chunk_size=3)
    monkeypatch.setattr(modeling_froster, "LONGEST_SHARED", 19)
    monkeypatch.setattr(modeling_froster, "sort_and_share", None)
    torch.testing.assert_close(model.get_label_embeds(ids, chunk_size=3), expected, **EXACT)


@pytest.mark.parametrize("part", ["text_model", "text_model.encoder.layers.0.self_attn"])
def test_hooks_of_the_text_tower_are_called(part):
    model = double_model().froster
    expected = model.get_label_embeds(tiny_texts(), chunk_size=3)
    calls = []
    model.get_submodule(part).register_forward_hook(lambda *_: calls.append(1))
    torch.testing.assert_close(model.get_label_embeds(tiny_texts(), chunk_size=3), expected, **EXACT)
    assert calls


def test_compiled_models_give_the_same_embeddings():
    model = tiny_model().froster
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    with torch.no_grad():
        expected = model(tiny_clips(), tiny_texts())
        found = compiled(tiny_clips(), tiny_texts())
    torch.testing.assert_close(found.logits_per_video, expected.logits_per_video)
