"""What a model card says that neither the checkpoint nor a measurement can: data, in one YAML file per card."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from huggingface_hub.utils import HFValidationError, validate_repo_id

from ..printing import one_line, printable
from ..settings import read_fields, read_yaml_file
from .markdown import link


@dataclass(frozen=True)
class PublishedNumber:
    """A number of a publication, which the card shows as the authors' and not as measured here.

    Args:
        setting: what was measured, such as "UCF-101, full set".
        metric: such as "top-1 (%)".
        value: as published.
    """

    setting: str
    metric: str
    value: float


@dataclass(frozen=True)
class CardFacts:
    """Facts of a card. All text is shown literally.

    Args:
        name: name of the model, the card's title.
        summary: what it is, in a sentence or two.
        license: identifier of the weights' license on the Hub, such as `cc-by-nc-sa-4.0`.
        license_note: whose license it is, and what it asks for.
        base_model: the repository on the Hub that the weights started from.
        datasets: names on the Hub of the data sets that the weights were trained on.
        example_labels: what the card's example asks about; by default the first of the checkpoint's own labels.
        training: how, by whom.
        evaluation_note: what a reader of the measured results should know, such as how to repeat them.
        limitations: one per line.
        published: numbers of `published_source`.
        published_source: https address of the publication.
        published_note: what the numbers rest on.
        citation: BibTeX.
        benchmarks: measured result (`ucf101/full/top1`) -> `{dataset_id, task_id}` of the benchmark on the Hub that it
            is a result of; such results are also written to `.eval_results/`.
    """

    name: str
    summary: str = ""
    license: str | None = None
    license_note: str = ""
    base_model: str | None = None
    datasets: tuple[str, ...] = ()
    example_labels: tuple[str, ...] = ()
    training: str = ""
    evaluation_note: str = ""
    limitations: tuple[str, ...] = ()
    published: tuple[PublishedNumber, ...] = ()
    published_source: str | None = None
    published_note: str = ""
    citation: str = ""
    benchmarks: dict[str, dict[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for repo_id in (self.base_model, *self.datasets):
            if repo_id is not None:
                validate_repo_id(repo_id)
        if self.published and self.published_source is None:
            raise ValueError("Published numbers need `published_source`, the https address where they stand.")
        if self.published_source is not None:
            link(self.published_source)
        if "```" in self.citation:
            raise ValueError("`citation` holds ```, which would end the card's block of code.")
        for key, benchmark in self.benchmarks.items():
            if set(benchmark) != {"dataset_id", "task_id"}:
                raise ValueError(
                    f"benchmarks[{key!r}] is {benchmark!r}; it must be {{dataset_id: ..., task_id: ...}}."
                )
            validate_repo_id(benchmark["dataset_id"])  # which becomes the name of a file


def load_card_facts(path: str | os.PathLike[str]) -> CardFacts:
    """The facts of a YAML file.

    Raises:
        ValueError: not YAML, unknown or missing fields, numbers without a source, a name that the Hub does not take.
        OSError: the file cannot be read.
    """
    path = Path(path)
    try:
        return read_fields(CardFacts, read_yaml_file(path), where=str(path))
    except (TypeError, HFValidationError) as error:
        raise ValueError(f"{printable(str(path))}: {one_line(str(error))}") from error
