"""The model card: metadata for the Hub, and a page for people, from facts, the checkpoint itself, and measurements."""

import dataclasses
import functools
import json
import pkgutil
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_type_hints

from huggingface_hub import ModelCard, ModelCardData

from ..modeling.configuration_froster import FrosterConfig
from ..printing import counted, printable, printable_lines
from ..settings import NameIn, yaml_text
from ..training.arguments import FrosterTrainingArguments
from ..training.recipes import CHECKPOINT_FIELDS, RECIPE_KINDS, argument_hints
from ..training.run_identity import COMPARED_BY_EFFECT, decides
from .card_facts import CardFacts
from .markdown import Safe, render
from .measured_results import MeasuredResult
from .run_facts import shown_checkpoint

TEMPLATE = Path(__file__).with_name("card_template.md")
TASK = "zero-shot-video-classification"
# In the examples of a card without a repository.
PLACE = "path/to/this/folder"
# Further labels are in config.json.
SHOWN_LABELS = 100
# What the example asks about where a checkpoint has no labels of its own, and how many of its own.
EXAMPLE_LABELS = ("riding a bike", "juggling", "playing the cello")
NUM_EXAMPLE_LABELS = 3
# A checkpoint's labels stand in the example's code only where nothing in them could be taken for anything else.
PLAIN_LABEL = re.compile(r"[\w ,.()-]{1,60}")
# What a training recipe says about the method; its other fields are the user's paths and machine.
RECIPE_FIELDS = ("about", "model", "total_batch_size", "warmup_epochs", "training")
RECIPE_DATA_FIELDS = ("format", "published", "label_set", "held_out", "shots")
# Told as they are: the exported folder has the templates, too.
FREE_TEXT_FIELDS = ("about", "model.prompt_templates")
# A text in an argument's list or mapping, such as the sampling of a video; a path is none.
WORD = re.compile(r"\w{1,60}")


class ShownCardData(ModelCardData):
    """The metadata of a card, as text that acts on no terminal."""

    def to_yaml(self, line_break: str | None = None, original_order: list[str] | None = None) -> str:
        """See [`~huggingface_hub.ModelCardData.to_yaml`]; the order is that of the fields."""
        return yaml_text(self.to_dict()).strip()


class ShownCard(ModelCard):
    """A card whose text and metadata act on no terminal; the Hub's own writes its metadata again."""

    card_data_class = ShownCardData


def build_model_card(
    facts: CardFacts,
    *,
    config: FrosterConfig,
    num_parameters: int | None = None,
    prompt_templates: Sequence[str] = (),
    results: Sequence[MeasuredResult] = (),
    recipe: Mapping[str, Any] | None = None,
    conversion: Mapping[str, Any] | None = None,
    repo_id: str | None = None,
) -> ModelCard:
    """The card of a checkpoint. It claims what is given here and nothing else.

    Args:
        facts: see [`CardFacts`].
        config: the checkpoint's.
        num_parameters: its weights.
        prompt_templates: the processor's.
        results: measured on these weights.
        recipe: the training recipe, as its YAML file holds it.
        conversion: `conversion.json` of converted weights.
        repo_id: under which name the examples load it; a repository on the Hub.

    Raises:
        ValueError: metadata that huggingface_hub's classes refuse.
    """
    data = ShownCardData(
        license=facts.license,
        base_model=facts.base_model,
        datasets=list(facts.datasets) or None,
        library_name="transformers",
        pipeline_tag="video-classification",
        tags=["froster", "action-recognition", "open-vocabulary", TASK, "custom_code"],
        metrics=sorted({result.metric_type for result in results}) or None,
        model_name=facts.name if results else None,
        eval_results=[result.to_eval_result() for result in results] or None,
    )
    labels = [config.id2label[index] for index in sorted(config.id2label)]
    plain_labels = [label for label in labels if PLAIN_LABEL.fullmatch(label)]
    examples = facts.example_labels or plain_labels[:NUM_EXAMPLE_LABELS] or EXAMPLE_LABELS
    body = render(
        TEMPLATE,
        facts=facts,
        citation=Safe(printable_lines(facts.citation.strip().expandtabs().split("\n"))),
        repo_id=repo_id or PLACE,
        # As Python writes them, on one line.
        example_labels=Safe(_python_list(examples)),
        architecture=architecture_rows(config, num_parameters, len(prompt_templates)),
        is_time_symmetric=all(entry.time_symmetric for entry in config.temporal_entries),
        results=results,
        recipe=recipe_rows(recipe or {}),
        conversion=conversion and without_paths(conversion),
        labels=labels[:SHOWN_LABELS],
        num_labels=len(labels),
    )
    card = ShownCard(f"---\n{data}\n---\n\n{body}")
    if card.data.to_dict() != data.to_dict():
        raise ValueError("The card's metadata did not survive being written; check the facts for odd values.")
    return card


def _python_list(texts: Sequence[str]) -> str:
    """Texts as a list in code, with Python's escapes of what would hide in it; those of JSON are among them."""
    text = json.dumps(list(texts), ensure_ascii=False)
    return printable(text, limit=len(text))


def architecture_rows(
    config: FrosterConfig, num_parameters: int | None, num_templates: int
) -> list[tuple[str, str | int]]:
    """What the weights are, as (property, value)."""
    vision, text = config.vision_config, config.text_config
    temporal: str = config.temporal_module
    if config.temporal_entries[0].has_radius:
        temporal += f", {counted(config.temporal_radius, 'frame')} to each side"
    rows: list[tuple[str, str | int]] = [
        ("backbone", config.backbone),
        ("vision tower", f"ViT, {vision.num_hidden_layers} layers, width {vision.hidden_size}"),
        (
            "frames",
            f"{config.num_frames} of {vision.image_size} x {vision.image_size}, patches of {vision.patch_size}",
        ),
        ("temporal module", temporal),
        ("pooling over time", config.temporal_pooling),
        ("text tower", f"{text.num_hidden_layers} layers, width {text.hidden_size}"),
        ("joint embedding", config.projection_dim),
    ]
    if num_parameters is not None:
        rows.append(("parameters", f"{num_parameters:,}"))
    if num_templates:
        rows.append(("prompts per label", num_templates))
    return rows


def recipe_rows(recipe: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A training recipe as (field, value): what decides the weights, and no text that may be a path, name or token."""
    shown = {name: recipe[name] for name in RECIPE_FIELDS if name in recipe}
    data = recipe.get("data") or {}
    shown["data"] = {name: data[name] for name in RECIPE_DATA_FIELDS if name in data}
    hints = _recipe_hints()
    rows = []
    for name, value in shown.items():
        fields = (
            {f"{name}.{key}": entry for key, entry in value.items()} if isinstance(value, Mapping) else {name: value}
        )
        for key, entry in fields.items():
            if entry is None or key not in hints:
                continue
            if key in CHECKPOINT_FIELDS:
                entry = shown_checkpoint(str(entry))
            elif key not in FREE_TEXT_FIELDS and not _is_told(entry, set(_choices(hints[key]))):
                continue
            rows.append((key, entry if isinstance(entry, str) else json.dumps(entry, ensure_ascii=False)))
    return rows


@functools.cache
def _recipe_hints() -> dict[str, Any]:
    """Field of a recipe of any kind, with its section -> type; of arguments, those that decide the weights."""
    hints: dict[str, Any] = {}
    for kind in RECIPE_KINDS.values():
        for name, hint in get_type_hints(pkgutil.resolve_name(kind.fields), include_extras=True).items():
            parts = get_type_hints(hint, include_extras=True) if dataclasses.is_dataclass(hint) else {}
            hints |= {name: hint} | {f"{name}.{part}": inner for part, inner in parts.items()}
    arguments = argument_hints(FrosterTrainingArguments, reserved=())
    told = {name: hint for name, hint in arguments.items() if decides(name) or name in COMPARED_BY_EFFECT}
    return hints | {f"training.{name}": hint for name, hint in told.items()}


def _choices(hint: Any) -> Iterator[str]:
    """The texts that a field's type names."""
    for part in get_args(hint):
        yield from part.table if isinstance(part, NameIn) else [part] if isinstance(part, str) else _choices(part)


def _is_told(value: Any, choices: Collection[str]) -> bool:
    """Whether a value consists of numbers, a field's own choices, and, within lists and mappings, of words."""
    if isinstance(value, list | tuple | Mapping):
        entries = [*value, *value.values()] if isinstance(value, Mapping) else value
        return all((isinstance(entry, str) and WORD.fullmatch(entry)) or _is_told(entry, ()) for entry in entries)
    return value is None or isinstance(value, int | float) or (isinstance(value, str) and value in choices)


def without_paths(report: Mapping[str, Any]) -> dict[str, Any]:
    """The report of a conversion; what was converted and written is named without the path on somebody's disk."""
    names = {name: str(report[name]) for name in ("source", "output") if name in report}
    return {**report, **{name: path.replace("\\", "/").rstrip("/").rpartition("/")[2] for name, path in names.items()}}
