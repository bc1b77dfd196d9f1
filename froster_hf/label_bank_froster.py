"""The label bank: embeddings of a label list, computed once and reused for every video.

Between the processor and the model in the zero-shot pipeline. Labels are written, tokenized and encoded a chunk at a
time, so that ten thousand of them need no more memory than a chunk and the K embeddings.

Letters: K labels, P prompts a label, D the joint embedding width.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers.utils.logging import tqdm

PROMPTS_PER_CHUNK = 4096
TEXTS_PER_BATCH = 256
# A label bank with more prompts than this shows a progress bar on a terminal.
PROMPTS_WITHOUT_PROGRESS = 8192
# Values of each parameter that are compared from call to call.
FINGERPRINT_VALUES = 8


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
    def of(cls, labels: Sequence[str] | Mapping[str, str | None], templates: Sequence[str] | str | None) -> "LabelSet":
        """From a list of labels, or a mapping from label to description.

        Raises:
            ValueError: a string, which would fall apart into letters.
        """
        if isinstance(labels, str):
            raise ValueError(
                f"The labels must be a list of class names, got the string {labels!r}. Write {labels.split(',')!r}."
            )
        if templates is not None and not isinstance(templates, str):
            templates = tuple(templates)
        descriptions = tuple(labels.values()) if isinstance(labels, Mapping) else None
        return cls(tuple(labels), descriptions, templates)


class LabelBanks:
    """The label banks of one model and processor, the most recently used of them kept.

    Args:
        processor: a `FrosterProcessor`.
        model: a `FrosterModel`.
        capacity: banks that are kept.
    """

    def __init__(self, processor: Any, model: Any, *, capacity: int = 8):
        self.processor, self.model, self.capacity = processor, model, capacity
        self._banks: OrderedDict[tuple, torch.Tensor] = OrderedDict()

    def get(self, labels: LabelSet) -> torch.Tensor:
        """Embeddings (K, D) of the labels; computed where they are not known for these labels and these weights.

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
        if key not in self._banks:
            self._banks[key] = self._encode(labels)
            while len(self._banks) > self.capacity:
                self._banks.popitem(last=False)
        self._banks.move_to_end(key)
        return self._banks[key]

    @torch.no_grad()
    def _encode(self, label_set: LabelSet) -> torch.Tensor:
        labels, templates = label_set.labels, label_set.templates
        # The whole list is checked before the first chunk: repeated labels may lie in different chunks.
        repeated = len(labels) - len(set(labels))
        if not labels or repeated:
            raise ValueError(
                f"Labels must be given and differ from each other; got {len(labels)}, {repeated} repeated."
            )
        first = self.processor.encode_labels(labels[:1], templates=templates, truncation=True)
        num_prompts = first["num_prompts"]
        step = max(1, PROMPTS_PER_CHUNK // num_prompts)
        embeds = []
        starts = range(0, len(labels), step)
        hidden = True if len(labels) * num_prompts <= PROMPTS_WITHOUT_PROGRESS else None
        for start in tqdm(starts, desc="Encoding labels", unit="chunk", disable=hidden):
            chunk = slice(start, start + step)
            descriptions = label_set.descriptions and label_set.descriptions[chunk]
            encoded = self.processor.encode_labels(labels[chunk], descriptions, templates=templates)
            embeds.append(
                self.model.get_label_embeds(
                    encoded["input_ids"].to(self.model.device),
                    num_prompts=encoded["num_prompts"],
                    chunk_size=TEXTS_PER_BATCH,
                )
            )
        return torch.cat(embeds)


def weights_state(module: nn.Module) -> tuple:
    """A value that changes when what the module computes does.

    By a step of training, by loading, moving or casting, by switching or merging adapters; and, where that leaves no
    trace in torch's version counter (`parameter.data`), by a change in one of a few values of each parameter.
    """
    parameters = list(module.parameters())
    versions = tuple(
        (parameter.data_ptr(), parameter.dtype, 0 if parameter.is_inference() else parameter._version)
        for parameter in parameters
    )
    return versions, _fingerprint(parameters), _adapter_state(module)


def _fingerprint(parameters: Sequence[torch.Tensor]) -> tuple[bytes, ...]:
    """A few values of each parameter, evenly spread; read from each device at once, since a read waits for it."""
    samples: dict[torch.device, list[torch.Tensor]] = {}
    for parameter in parameters:
        if not parameter.is_meta and parameter.numel():
            step = -(-parameter.numel() // FINGERPRINT_VALUES)
            samples.setdefault(parameter.device, []).append(parameter.detach().flatten()[::step])
    return tuple(torch.cat(values).cpu().double().numpy().tobytes() for values in samples.values())


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
