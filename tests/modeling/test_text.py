import pytest
import torch
import torch.nn.functional as F

from froster_hf.modeling import modeling_froster
from froster_hf.modeling.layers_froster import average_prompts
from froster_hf.modeling.modeling_froster import text_lengths, trim_to_longest
from tests.modeling.tiny import END, TEXT, tiny_clips, tiny_model, tiny_texts


def padded_to_the_towers_length(texts):
    return F.pad(texts, (0, TEXT["max_position_embeddings"] - texts.shape[1]), value=TEXT["pad_token_id"])


@pytest.mark.parametrize("token", [-1, TEXT["vocab_size"], 2**40])
def test_a_token_that_the_model_does_not_have_is_refused_by_its_index(token):
    model, texts = tiny_model(), tiny_texts(3)
    texts[1, 1] = token
    said = f"has the token {token}, but this model has {TEXT['vocab_size']}, from 0 on. Load the tokenizer"
    for read in (
        model.froster.get_text_features,
        lambda texts: model.froster.get_label_embeds(texts, chunk_size=2),
        lambda texts: model(tiny_clips(1), input_ids=texts),
    ):
        with pytest.raises(ValueError, match=said):
            read(texts)


def test_lengths_end_with_the_first_end_token():
    ids = torch.tensor([[98, 5, END, 0], [98, END, END, END], [98, 5, 6, END]])
    assert text_lengths(ids, END).tolist() == [3, 2, 4]


def test_lengths_end_with_the_highest_id_for_the_historical_configuration():
    assert text_lengths(torch.tensor([[98, 5, END, 0], [98, END, 0, 0]]), "highest").tolist() == [3, 2]


def test_chunks_are_sorted_and_no_longer_than_their_longest_text():
    texts = padded_to_the_towers_length(tiny_texts(7))
    order, chunks = trim_to_longest(texts, END, chunk_size=3)
    assert [len(chunk) for chunk in chunks] == [3, 3, 1]
    lengths = text_lengths(texts, END)
    assert [chunk.shape[1] for chunk in chunks] == [int(lengths[order[i : i + 3]].max()) for i in (0, 3, 6)]
    for row, text in zip(order.tolist(), (text for chunk in chunks for text in chunk)):
        assert torch.equal(texts[row, : len(text)], text)


def test_chunks_are_as_wide_as_a_multiple_and_no_wider_than_the_texts():
    texts = padded_to_the_towers_length(tiny_texts(7))
    _, chunks = trim_to_longest(texts, END, chunk_size=3)
    _, rounded = trim_to_longest(texts, END, chunk_size=3, multiple=8)
    assert {chunk.shape[1] for chunk in rounded} <= {8, 16, texts.shape[1]}
    assert all(0 <= wide.shape[1] - narrow.shape[1] < 8 for wide, narrow in zip(rounded, chunks, strict=True))


@torch.no_grad()
def test_texts_each_for_itself_have_the_embeddings_of_texts_that_share(monkeypatch):
    """As an accelerator encodes them."""
    model, texts = tiny_model().froster, tiny_texts(12)
    expected = model.get_label_embeds(texts, num_prompts=2, chunk_size=5)
    monkeypatch.setattr(modeling_froster, "is_plain_text_tower", lambda tower: False)
    torch.testing.assert_close(model.get_label_embeds(texts, num_prompts=2, chunk_size=5), expected, atol=1e-6, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("chunk_size", [None, 1, 4, 100])
def test_trimmed_and_chunked_encoding_equals_the_full_length(chunk_size):
    model = tiny_model().froster
    texts = tiny_texts(7)
    expected = model.get_text_features(padded_to_the_towers_length(texts)).text_embeds
    found = model.get_label_embeds(texts, chunk_size=chunk_size)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


@torch.no_grad()
def test_what_stands_behind_the_end_token_does_not_matter():
    model = tiny_model().froster
    texts = padded_to_the_towers_length(tiny_texts(4))
    noisy = texts.clone()
    for row, length in enumerate(text_lengths(texts, END).tolist()):
        noisy[row, length:] = torch.randint(1, 90, (texts.shape[1] - length,))
    found, expected = (model.get_text_features(ids).text_embeds for ids in (noisy, texts))
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_chunks_recompute_but_give_the_same_gradients():
    gradients = []
    for chunk_size in (None, 2):
        model = tiny_model().double()  # in which other orders of summation differ by less than is allowed
        outputs = model(
            tiny_clips().double(),
            input_ids=tiny_texts(),
            num_prompts=2,
            labels=torch.tensor([0, 2]),
            text_chunk_size=chunk_size,
        )
        outputs.loss.backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-6, rtol=1e-5)


def test_chunks_keep_no_activations_for_the_backward_pass():
    model = tiny_model().froster
    saved: list[int] = []

    def count(tensor):
        saved.append(tensor.numel())
        return tensor

    sizes = {}
    for chunk_size in (None, 2):
        saved.clear()
        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            model.get_label_embeds(tiny_texts(12), chunk_size=chunk_size)
        sizes[chunk_size] = sum(saved)
    assert sizes[2] < sizes[None] / 5


def test_prompts_are_averaged_as_unit_vectors_and_normalized_again():
    embeds = F.normalize(torch.randn(6, 8), dim=-1)
    averaged = average_prompts(embeds, 3)
    torch.testing.assert_close(averaged[1], F.normalize(embeds[3:].mean(0), dim=0))
    assert average_prompts(embeds, 1) is embeds


@pytest.mark.parametrize("chunk_size", [None, 8])
def test_no_texts_have_no_embeddings(chunk_size):
    with pytest.raises(ValueError, match="no texts to embed"):
        tiny_model().froster.get_label_embeds(torch.zeros(0, 8, dtype=torch.long), chunk_size=chunk_size)


@pytest.mark.parametrize("num_prompts", [4, 0, -1])
def test_a_wrong_number_of_prompts_is_refused(num_prompts):
    with pytest.raises(ValueError, match=f"6 texts cannot be {num_prompts} prompts"):
        average_prompts(torch.randn(6, 8), num_prompts)
