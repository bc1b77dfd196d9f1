"""The label bank: computed once for labels, templates and weights, of whatever kind, also by threads."""

import copy
import pickle
import threading

import pytest
import torch
from torch import nn
from transformers import pipeline

import froster_hf  # noqa: F401
from froster_hf.pipeline.scoring_froster import LabelBanks, weights_state
from froster_hf.processing.prompts_froster import LabelList
from tests.fixtures.real_videos import REAL_VIDEOS
from tests.fixtures.tiny import tiny_model, tiny_processor

TASK = "zero-shot-video-classification"
LABELS = ["riding a bike", "playing golf", "cooking"]
BIKES = str(REAL_VIDEOS["bikes"])


@pytest.fixture
def encoded(classify, monkeypatch) -> list:
    """The label lists that were encoded."""
    lists = []
    embed = classify.processor.embed_labels
    monkeypatch.setattr(
        classify.processor, "embed_labels", lambda *args, **kwargs: lists.append(args[0]) or embed(*args, **kwargs)
    )
    return lists


def test_it_is_computed_once_for_labels_templates_and_weights(classify, encoded):
    first = classify(BIKES, LABELS)
    passes = len(encoded)
    assert passes > 0
    assert classify([BIKES, BIKES], LABELS) == [first, first]
    assert len(encoded) == passes
    classify(BIKES, LABELS, templates="none")
    assert len(encoded) > passes
    passes = len(encoded)
    with torch.no_grad():
        classify.model.froster.text_projection.weight.mul_(-1)
    assert [answer["label"] for answer in classify(BIKES, LABELS)] == [answer["label"] for answer in reversed(first)]
    assert len(encoded) > passes


@pytest.mark.parametrize("fused", [False, True])
def test_a_step_of_training_renews_it(classify, fused):
    """For fused optimizers, of which one is the Trainer's by default, torch counts no new version of the weights."""
    before = classify.label_embeds(LABELS)
    optimizer = torch.optim.AdamW(classify.model.parameters(), lr=0.1, fused=fused)
    for parameter in classify.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    after = classify.label_embeds(LABELS)
    classify.clear_label_bank()
    torch.testing.assert_close(after, classify.label_embeds(LABELS), rtol=0, atol=0)
    assert not torch.allclose(after, before)


@torch.no_grad()
def test_writes_that_torch_does_not_count_need_a_word(classify):
    before = classify.label_embeds(LABELS)
    assert classify.label_embeds(LABELS) is before
    classify.model.froster.text_projection.weight.data.mul_(-1)
    classify.clear_label_bank()
    torch.testing.assert_close(classify.label_embeds(LABELS), -before)


def test_knowing_the_weights_again_reads_nothing_from_their_device(classify):
    """Tensors on the device "meta" hold no values: whoever reads one fails."""
    meta = tiny_model().to("meta")
    assert weights_state(meta) == weights_state(meta)
    assert weights_state(meta) != weights_state(classify.model)


class Composite(torch.Tensor):
    """As quantized weights are: a tensor made of others, with no values of its own and few operations."""

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        if function is torch.ops.aten.detach.default:
            return Composite.of_size(args[0].shape)
        raise NotImplementedError(function)

    @classmethod
    def of_size(cls, size) -> "Composite":
        return cls._make_wrapper_subclass(cls, size, dtype=torch.float32)


def test_weights_that_are_composed_of_others_are_told_apart_by_what_they_are():
    def module() -> nn.Module:
        layer = nn.Module()
        layer.weight = nn.Parameter(Composite.of_size((4, 4)), requires_grad=False)
        return layer

    first, second = module(), module()
    assert weights_state(first) == weights_state(first)
    assert weights_state(first) != weights_state(second)


def test_a_model_quantized_by_torchao_scores_videos(classify):
    quantization = pytest.importorskip("torchao.quantization", reason="needs torchao: pip install torchao")
    expected = {answer["label"]: answer["score"] for answer in classify(BIKES, LABELS)}
    quantization.quantize_(classify.model, quantization.Int8WeightOnlyConfig())
    answers = {answer["label"]: answer["score"] for answer in classify([BIKES, BIKES], LABELS)[1]}
    assert answers == pytest.approx(expected, abs=0.05)
    assert classify.label_embeds(LABELS) is classify.label_embeds(LABELS)


@torch.no_grad()
def test_switching_adapters_renews_it():
    peft = pytest.importorskip("peft")
    model = tiny_model()
    config = peft.LoraConfig(target_modules=["text_projection"], init_lora_weights=False)
    classify = pipeline(TASK, model=model, processor=tiny_processor())
    plain = classify.label_embeds(LABELS)
    model.add_adapter(config, "one")
    model.add_adapter(config, "two")
    banks = {}
    for name in ("one", "two", "one"):
        model.set_adapter(name)
        banks.setdefault(name, classify.label_embeds(LABELS))
        assert classify.label_embeds(LABELS) is banks[name]
    model.disable_adapters()
    banks["none"] = classify.label_embeds(LABELS)
    torch.testing.assert_close(banks["none"], plain)
    assert not torch.allclose(banks["one"], plain, atol=1e-3)
    assert not torch.allclose(banks["one"], banks["two"], atol=1e-3)


def test_it_serves_gradients_too_where_it_was_first_used_in_inference_mode():
    processor = tiny_processor()
    banks, labels = LabelBanks(processor, tiny_model().froster), processor.read_labels(LABELS)
    with torch.inference_mode():
        banks.get(labels)
    weight = torch.ones(1, requires_grad=True)
    (weight * banks.get(labels)).sum().backward()
    assert weight.grad is not None


def in_threads(function, number: int) -> list:
    """What `function(0)`, `function(1)`, ... give when they start at the same moment; raises what one of them does."""
    results, errors, start = {}, [], threading.Barrier(number)

    def call(index: int) -> None:
        start.wait()
        try:
            results[index] = function(index)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=call, args=(index,)) for index in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return [results[index] for index in range(number)]


def test_threads_with_one_new_list_compute_it_once(classify, encoded):
    banks = in_threads(lambda index: classify.label_embeds(LABELS), 8)
    assert all(bank is banks[0] for bank in banks)
    assert [list(labels.names) for labels in encoded] == [LABELS]


def test_lists_that_other_threads_push_out_are_computed_again():
    model, processor = tiny_model().froster, tiny_processor()
    banks = LabelBanks(processor, model, capacity=1)
    lists = [LabelList((f"action {number}",)) for number in range(4)]
    alone = [LabelBanks(processor, model).get(labels) for labels in lists]

    def get_each(index: int) -> None:
        for turn in range(8):
            number = (index + turn) % 4
            torch.testing.assert_close(banks.get(lists[number]), alone[number])

    in_threads(get_each, 4)


def test_a_list_that_is_refused_is_refused_again(classify):
    for _ in range(2):
        with pytest.raises(ValueError, match="repeated"):
            classify.label_embeds(["a", "a"])
    with pytest.raises(ValueError, match="repeated"):
        in_threads(lambda index: classify.label_embeds(["a", "a"]), 4)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda classify: pickle.loads(pickle.dumps(classify))])
def test_copies_of_a_pipeline_compute_their_own(classify, copied):
    before = classify.label_embeds(LABELS)
    other = copied(classify)
    with torch.no_grad():
        other.model.froster.text_projection.weight.mul_(-1)
    torch.testing.assert_close(other.label_embeds(LABELS), -before)
    assert classify.label_embeds(LABELS) is before
