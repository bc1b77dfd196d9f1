"""From label embeddings to answers: the label bank of a list, scores of labels, views and windows, "none of these".

The zero-shot pipeline asks the bank for the embeddings of its labels, compares videos with them, and turns the logits
into answers. Labels are written, tokenized and encoded a chunk at a time, so that ten thousand of them need no more
memory than a chunk and the K embeddings; a list that was seen before is not encoded again.

Letters: V views, n windows, K labels, P prompts per label, D the joint embedding width.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

ScoreFunction = Literal["softmax", "sigmoid", "none"]
Answer = dict[str, Any]

NONE_OF_THESE = "none of these"
# Type -> capabilities of processors (`torch.cpu.get_capabilities`), any of which means arithmetic in this type. Where
# there is none, every number is converted to float32 and back, and layers take three times as long and more.
ARITHMETIC: dict[torch.dtype, tuple[str, ...]] = {
    torch.bfloat16: ("avx512_bf16", "amx_bf16", "avx10_2", "bf16", "sve_bf16"),
    torch.float16: ("avx512_fp16", "amx_fp16", "avx10_2", "fp16_arith"),
}


def has_arithmetic(dtype: torch.dtype) -> bool:
    """Whether this machine's CPU computes in a type; true of float32 and wider ones."""
    capabilities = torch.cpu.get_capabilities()
    return dtype not in ARITHMETIC or any(capabilities.get(name, False) for name in ARITHMETIC[dtype])


def score_views(logits: torch.Tensor, function_to_apply: ScoreFunction) -> torch.Tensor:
    """Logits (V, K) of the views of a video to scores (K,): the function of each view, then the mean."""
    logits = logits.float()
    if function_to_apply == "softmax":
        logits = logits.softmax(-1)
    elif function_to_apply == "sigmoid":
        logits = logits.sigmoid()
    return logits.mean(0)


def check_finite(logits: torch.Tensor) -> None:
    """Refuse logits that are no numbers: no score can be made of them.

    Raises:
        ValueError: see there.
    """
    if not bool(logits.isfinite().all()):
        raise ValueError(
            "The model gave logits that are infinite or NaN. Its weights are damaged, its pixels were not finite "
            "(look at `image_std` and the like of the processor), or half precision was too narrow: try dtype=float32."
        )


def check_threshold(threshold: float | None, function_to_apply: ScoreFunction) -> None:
    """Refuse a threshold on logits, and one that no score or every score passes.

    Raises:
        ValueError: see there.
    """
    if threshold is not None and (function_to_apply == "none" or not 0 <= threshold <= 1):
        raise ValueError(
            f"`threshold` is {threshold} with the function {function_to_apply!r}; it is one of scores from 0 to 1, "
            "which 'softmax' and 'sigmoid' give."
        )


def rank(
    scores: torch.Tensor,
    labels: Sequence[str],
    *,
    top_k: int | None = None,
    none_score: float | None = None,
    threshold: float | None = None,
) -> list[Answer]:
    """Answers, best first.

    Args:
        scores: (K,) or longer; those behind the K labels belong to the background.
        labels: K names.
        top_k: labels to report.
        none_score: score of "none of these", where there is a background.
        threshold: labels below it are left out; where none remains, the answer is "none of these", whose score is
            `None` unless there is a `none_score`: nothing was measured that it could be.
    """
    values, indices = scores[: len(labels)].topk(min(top_k or len(labels), len(labels)))
    answers: list[Answer] = [
        {"score": score, "label": labels[index]} for score, index in zip(values.tolist(), indices.tolist())
    ]
    if threshold is not None:
        answers = [answer for answer in answers if answer["score"] >= threshold]
    if none_score is not None:
        answers.append({"score": none_score, "label": NONE_OF_THESE})
        answers.sort(key=lambda answer: -answer["score"])
    return answers or [{"score": None, "label": NONE_OF_THESE}]


def score_windows(logits: torch.Tensor, num_labels: int, function_to_apply: ScoreFunction) -> torch.Tensor:
    """Logits of windows, (n, K) or longer, to scores (n, K); a background adds one column for all of it."""
    scores = torch.stack([score_views(window[None], function_to_apply) for window in logits])
    if scores.shape[1] == num_labels:
        return scores
    none = [background_score(window[num_labels:], function_to_apply) for window in scores]
    return torch.cat([scores[:, :num_labels], torch.tensor(none)[:, None]], dim=1)


def background_score(background: torch.Tensor, function_to_apply: ScoreFunction) -> float:
    """What the background won: all of its probability, or its best score where scores do not add up."""
    return float(background.sum() if function_to_apply == "softmax" else background.max())


@dataclass(frozen=True)
class LabelSet:
    """A label list as a user asked for it.

    Args:
        labels: the K names.
        descriptions: one a label, or `None` for those that the processor knows.
        templates: prompt templates, or `None` for the processor's.
    """

    labels: tuple[str, ...]
    descriptions: tuple[str | None, ...] | None = None
    templates: tuple[str, ...] | str | None = None

    @classmethod
    def of(cls, labels: Any, templates: Sequence[str] | str | None) -> "LabelSet":
        """From what `FrosterProcessor.read_labels` makes of a label list."""
        if templates is not None and not isinstance(templates, str):
            templates = tuple(templates)
        return cls(labels.names, labels.descriptions, templates)


class LabelBanks:
    """The label banks of one model and processor, the most recently used of them kept. Threads may share it.

    Args:
        processor: a `FrosterProcessor`.
        model: a `FrosterModel`.
        capacity: banks that are kept.
    """

    def __init__(self, processor: Any, model: Any, *, capacity: int = 8):
        self.processor, self.model, self.capacity = processor, model, capacity
        self.clear()

    def clear(self) -> None:
        """Forget all banks."""
        self._lock = threading.Lock()
        self._banks: OrderedDict[tuple, Future[torch.Tensor]] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        # Worker processes and copies compute their own, if they need any.
        return {"processor": self.processor, "model": self.model, "capacity": self.capacity}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.clear()

    def get(self, labels: LabelSet) -> torch.Tensor:
        """Embeddings (K, D) of the labels; computed where they are not known for these labels and these weights.

        Of several threads that ask for a new list at once, one computes it and the others wait.

        Raises:
            ValueError: labels that the processor refuses.
        """
        processor = self.processor
        key = (
            labels,
            tuple(processor.prompt_templates),
            processor.label_style,
            repr(processor.label_descriptions),
            weights_state(self.model),
        )
        with self._lock:
            bank = self._banks.get(key)
            is_new = bank is None
            if bank is None:
                bank = self._banks[key] = Future()
            self._banks.move_to_end(key)
            while len(self._banks) > self.capacity:
                self._banks.popitem(last=False)
        if is_new:
            try:
                embeds = processor.embed_labels(
                    labels.labels, labels.descriptions, model=self.model, templates=labels.templates
                )
                bank.set_result(embeds)
            except BaseException as error:
                with self._lock:
                    self._banks.pop(key, None)
                bank.set_exception(error)
        return bank.result()


def weights_state(module: nn.Module) -> tuple:
    """A value that changes when what the module computes does: by a step of training, by loading, moving or casting,
    by switching or merging adapters.

    Nothing is read from the device. Writes that torch does not count (`parameter.data`) leave no trace.
    """
    return tuple(_identity(parameter) for parameter in module.parameters()), _adapter_state(module)


def _identity(parameter: torch.Tensor) -> tuple:
    """Which tensor it is, where its values lie, and how often they were written."""
    version = 0 if parameter.is_inference() else parameter._version
    return id(parameter), parameter.data_ptr(), parameter.dtype, version


def _adapter_state(module: nn.Module) -> tuple:
    """Which of PEFT's adapters take part, and how strongly.

    PEFT's layers have the property `disable_adapters`; the models of transformers have a method of this name.
    """
    return tuple(
        (
            layer.disable_adapters,
            tuple(getattr(layer, "active_adapters", ())),
            tuple(getattr(layer, "merged_adapters", ())),
            repr(getattr(layer, "scaling", None)),
        )
        for layer in module.modules()
        if isinstance(getattr(layer, "disable_adapters", None), bool)
    )
