"""The label bank: embeddings of a label list, computed once and reused for every video.

Between the processor and the model in the zero-shot pipeline. Labels are written, tokenized and encoded a chunk at a
time, so that ten thousand of them need no more memory than a chunk and the K embeddings.

Letters: K labels, P prompts a label, D the joint embedding width.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


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
