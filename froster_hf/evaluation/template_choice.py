"""`choose_templates`: which prompt templates fit a checkpoint, by the user's own labeled videos?

    videos --embed_videos, once--> (n, V, D) --every candidate's label embeddings--> which videos each has right (n,)
        --choose on all folds but one, measure on that one--> the figure to expect on other videos
        --choose on all--> the templates to keep

The accuracy of the winner on the videos that chose it is too good: the best of many is partly luck. So the choice
itself is measured, by cross-validation: every video with the templates that the videos of the other folds chose.
Letters: n videos, V views, K labels, N sentences about them, D the joint embedding width.
"""

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from datasets import Dataset

from ..data.video_table import is_multi_label, label_array, label_names
from ..pipeline.scoring_froster import check_finite
from ..processing.prompts_froster import TEMPLATE_SETS, find_text_pooling, resolve_templates
from .evaluating import matched_descriptions, result_folder
from .metrics import average_views, paired_intervals, true_ranks
from .own_list import STORED_LABELS, keep_descriptions, named_table, own_views, save_variant
from .page import CHOSEN_FOLDER, difference_in_words
from .predicting import Computing, embed_videos, refuse_many_scores
from .report import cell, markdown_table, one_decimal, package_versions, percent, percent_interval, write_result

TemplateSearch = Literal["sets", "greedy"]
# Of all candidates' label embeddings, which are held together: half a gigabyte.
MOST_TEXT_NUMBERS = 2**27
OWN_TEMPLATES = "the checkpoint's own"
# A choice of templates (their positions among all candidates), or its name.
_Choice = tuple[int, ...]


def choose_templates(
    videos: str | os.PathLike | Dataset,
    *,
    classify: Any,
    output_dir: str | os.PathLike,
    search: TemplateSearch = "sets",
    candidates: Mapping[str, Sequence[str]] | None = None,
    num_folds: int = 5,
    seed: int = 0,
    name: str | None = None,
    descriptions: Mapping[str, Any] | None = None,
    text_pooling: str | None = None,
    accelerator: Accelerator | None = None,
    overwrite: bool = False,
    batch_size: int = 8,
    num_workers: int = 0,
    precision: Any = "float32",
    **reading: Any,
) -> dict[str, Any]:
    """Chooses a checkpoint's prompt templates by labeled videos, and measures by cross-validation what that is worth.

    Videos are read once, and not again after an interruption. The pipeline in memory has the chosen templates from
    then on, and so has the checkpoint in `chosen_templates` of the result folder.

    Args:
        videos: a folder of class folders, a list, or a table, with one label per video. Not those that the result will
            be reported on.
        classify: zero-shot pipeline.
        output_dir: result folder: `result.json`, `result.md`, `chosen_templates/`, `predictions/`.
        search: `sets`, the best of the candidate sets; or `greedy`, single templates of all sets, of which the one
            that helps most is added until none does.
        candidates: sets of templates by name; by default the checkpoint's own and those of the package. The first is
            what the choice is compared with, and the earlier one wins a tie.
        num_folds: parts of the videos, each with its share of every label.
        seed: deals the videos out to the folds.
        name: name of the videos in the report; by default that of their folder or list.
        descriptions: see `evaluate_videos`.
        text_pooling: see `evaluate_videos`.
        accelerator: None makes one.
        overwrite: begin again, and replace the evaluation in `output_dir`, which stays until the new one is whole.
        batch_size: clips computed together.
        num_workers: decoding workers.
        precision: `float32`, `bfloat16` or `float16`.
        reading: `root`, `labels`, `missing`, `allow_links`; see `froster_hf.data.read_videos`.

    Returns:
        What `result.json` holds: `candidates` (accuracy of each on all videos), `chosen` (its templates), `held_out`
        (accuracy, its interval, and the paired difference from the first candidate), `folds`, `versions`.

    Raises:
        ValueError: no candidates, an unknown search, several labels per video, or fewer videos than folds.
        AnnotationError: videos or a list that cannot be used.
        OSError: nothing can be written to `output_dir`.
        PredictionMismatchError: the folder holds another evaluation.
    """
    if search not in get_args(TemplateSearch):
        raise ValueError(f"`search` is {search!r}; it must be {' or '.join(map(repr, get_args(TemplateSearch)))}.")
    processor, accelerator = classify.processor, accelerator or Accelerator()
    computing = Computing(batch_size, num_workers, precision)
    sets = _candidate_sets(candidates, processor)
    table, own_name = named_table(videos, **reading)
    if is_multi_label(table):
        raise ValueError("Templates are chosen by videos with one label each, and these may have several.")
    views = own_views(processor)
    num_views, width = views["num_views"] * views["num_crops"], classify.model.config.projection_dim
    # Of every view, the embedding is kept, and the scores are computed.
    for count, what in ((len(label_names(table)), "labels"), (width, "numbers of an embedding")):
        refuse_many_scores(len(table), num_views, count, what=what)
    subject = {
        "protocol": "template_choice",
        "name": name or own_name,
        "search": search,
        "num_folds": num_folds,
        "seed": seed,
        "candidates": {key: list(templates) for key, templates in sets.items()},
    }
    described = matched_descriptions(descriptions, table)
    # Before videos are scored; those that cannot be decoded may make them too few after all.
    _refuse_few_videos(len(table), num_folds)
    folder = Path(output_dir)
    with result_folder(folder, subject, overwrite=overwrite, subfolders=("predictions",)) as work:
        embeds, header = embed_videos(
            classify.model,
            table,
            processor=processor,
            output_dir=work / "predictions",
            accelerator=accelerator,
            **views,
            **vars(computing),
        )
        pool = list(dict.fromkeys(template for templates in sets.values() for template in templates))
        scorer = _TemplateScorer(
            classify.model,
            processor,
            embeds,
            label_array(table),
            labels=label_names(table),
            templates=pool,
            descriptions=described,
            text_pooling=text_pooling,
        )
        named = {key: tuple(pool.index(template) for template in templates) for key, templates in sets.items()}
        choose = _choose_greedily(len(pool)) if search == "greedy" else _choose_set(list(named.values()))
        folds = _deal_out(label_array(table), scorer.decoded, num_folds, seed)
        report = _report(subject, scorer, named, choose, folds)
        report |= {"data": header["data"], "labels": label_names(table), "model": header["model"]}
        report |= {"versions": package_versions()}
        _keep(classify, report, described, text_pooling)
        if accelerator.is_main_process:
            # First, since the report says that it is there.
            save_variant(classify, work / CHOSEN_FOLDER)
            write_result(report, markdown_of_choice(report), work)
        accelerator.wait_for_everyone()
    return report


def markdown_of_choice(report: Mapping[str, Any]) -> str:
    """The report as Markdown."""
    subject, held_out, chosen = report["protocol"], report["held_out"], report["chosen"]
    failed = report["num_undecodable"]
    undecodable = f"; {failed} could not be decoded and are left out" if failed else ""
    lines = [
        f"# Prompt templates for {cell(subject['name'])}",
        "",
        f"{report['num_clips']} videos, {len(report['labels'])} labels{undecodable}. Top-1 in percent.",
        "",
    ]
    rows = [
        [cell(name), str(entry["num_templates"]), one_decimal(entry["top1"])]
        for name, entry in report["candidates"].items()
    ]
    lines += markdown_table(["templates", "prompts per label", "top-1 on all videos"], rows)
    folds = Counter(_named(fold) for fold in report["folds"])
    first = next(iter(report["candidates"]))
    lines += [
        "",
        f"Chosen on all videos: {cell(_named(chosen))}. Its {chosen['top1']:.1f} % were measured on the videos that "
        "chose it, so they are too high.",
        "",
        f"**Held out: {held_out['top1']:.1f} %** ({held_out['interval'][0]:.1f} to {held_out['interval'][1]:.1f}), "
        f"every video with what the other {subject['num_folds'] - 1} of {subject['num_folds']} parts chose: "
        f"{difference_in_words(held_out)} against {cell(first)}. {_verdict(held_out)}",
        "",
        f"Chosen by the parts: {'; '.join(f'{cell(name)} ({count})' for name, count in folds.items())}.",
        "",
        f"Saved in `{CHOSEN_FOLDER}`, with the templates:",
        "",
        *(f"- {cell(template)}" for template in chosen["templates"]),
        "",
        *([report["note"], ""] if report["note"] else []),
        f"Versions: {', '.join(f'{name} {version}' for name, version in report['versions'].items())}.",
        "",
    ]
    return "\n".join(lines)


def _verdict(held_out: Mapping[str, Any]) -> str:
    if held_out["difference_interval"] is None:
        return "These videos are too few to say that choosing helps."
    low, high = held_out["difference_interval"]
    if low > 0:
        return "The choice helps."
    return "The choice harms." if high < 0 else "The interval holds zero: these videos do not say that choosing helps."


def _named(choice: Mapping[str, Any]) -> str:
    """A choice in words: the name of its set, or its templates."""
    return choice["name"] or " + ".join(f'"{template}"' for template in choice["templates"])


def _candidate_sets(candidates: Mapping[str, Sequence[str]] | None, processor: Any) -> dict[str, list[str]]:
    """The candidates by name, each set once."""
    if candidates is None:
        candidates = {
            OWN_TEMPLATES: processor.prompt_templates,
            **{name: entry.templates for name, entry in TEMPLATE_SETS.items()},
        }
    sets: dict[str, list[str]] = {}
    for name, templates in candidates.items():
        resolved = resolve_templates(templates)
        if resolved not in sets.values():
            sets[name] = resolved
    if not sets:
        raise ValueError("There are no candidates to choose templates from.")
    return sets


class _TemplateScorer:
    """Says which videos any choice of templates has right.

    Each template's label embeddings are computed once; those of several are their mean, normalized, as the processor
    makes them.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        embeds: np.ndarray,
        labels_of_videos: np.ndarray,
        *,
        labels: Sequence[str],
        templates: Sequence[str],
        descriptions: Mapping[str, Any] | None,
        text_pooling: str | None,
    ):
        self._backbone = getattr(model, "froster", model)
        self.templates, self.labels_of_videos = list(templates), labels_of_videos
        self.decoded = np.isfinite(embeds).all(axis=(1, 2))
        self._pooling = find_text_pooling(processor.text_pooling if text_pooling is None else text_pooling)
        self._videos = torch.from_numpy(embeds[self.decoded]).float()
        self._right: dict[_Choice, np.ndarray] = {}
        texts = []
        for template in self.templates:
            sentences, self._counts = processor.embed_sentences(
                list(labels), descriptions, model=model, templates=[template]
            )
            texts.append(sentences.float().cpu())
            if (count := len(self.templates) * sentences.numel()) > MOST_TEXT_NUMBERS:
                raise ValueError(
                    f"{len(self.templates):,} templates x {len(sentences):,} texts x {sentences.shape[1]:,} numbers "
                    f"of an embedding are {count:,}; at most {MOST_TEXT_NUMBERS:,} are compared. Choose among fewer "
                    "templates, or by videos of fewer labels."
                )
        self._texts = torch.stack(texts)  # (templates, N, D)
        check_finite(self._texts)

    @torch.no_grad()
    def right(self, choice: _Choice) -> np.ndarray:
        """(n,), true for the videos whose label scores highest; of those that were decoded."""
        key = tuple(sorted(choice))
        if key not in self._right:
            sentences = F.normalize(self._texts[list(key)].mean(0), dim=-1)
            bank = self._pooling.pool(sentences, self._counts)
            logits = self._backbone.similarity(self._videos.flatten(0, 1), bank)
            logits = logits.float().unflatten(0, self._videos.shape[:2])
            ranks = true_ranks(average_views(logits.numpy()), self.labels_of_videos[self.decoded])
            self._right[key] = ranks == 0
        return self._right[key]


_Choose = Callable[[_TemplateScorer, np.ndarray], _Choice]


def _choose_set(sets: Sequence[_Choice]) -> _Choose:
    """The set with the most videos right; of equals, the first."""
    return lambda scorer, rows: max(sets, key=lambda choice: scorer.right(choice)[rows].sum())


def _choose_greedily(num_templates: int) -> _Choose:
    """Forward selection: the template that helps most, until none does."""

    def choose(scorer: _TemplateScorer, rows: np.ndarray) -> _Choice:
        chosen: _Choice = ()
        best = -1
        while len(chosen) < num_templates:
            grown = [(*chosen, other) for other in range(num_templates) if other not in chosen]
            candidate = max(grown, key=lambda choice: scorer.right(choice)[rows].sum())
            if (count := int(scorer.right(candidate)[rows].sum())) <= best:
                break
            chosen, best = candidate, count
        return chosen

    return choose


def _refuse_few_videos(num_videos: int, num_folds: int) -> None:
    if not 2 <= num_folds <= num_videos:
        raise ValueError(
            f"There are {num_videos} videos to choose by and {num_folds} folds; there must be at least two folds and "
            "a video for each."
        )


def _deal_out(labels: np.ndarray, decoded: np.ndarray, num_folds: int, seed: int) -> np.ndarray:
    """The fold of every decoded video, (n,); the videos of each label go to the folds in turn.

    Raises:
        ValueError: fewer than two folds, or fewer videos than folds.
    """
    labels = labels[decoded]
    _refuse_few_videos(len(labels), num_folds)
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    order = shuffled[np.argsort(labels[shuffled], kind="stable")]
    folds = np.empty(len(labels), dtype=np.int64)
    folds[order] = np.arange(len(labels)) % num_folds
    return folds


def _report(
    subject: Mapping[str, Any],
    scorer: _TemplateScorer,
    named: Mapping[str, _Choice],
    choose: _Choose,
    folds: np.ndarray,
) -> dict[str, Any]:
    everything = np.arange(len(folds))
    chosen = choose(scorer, everything)
    held_out, choices = np.empty(len(folds)), []
    for fold in range(subject["num_folds"]):
        choice = choose(scorer, np.flatnonzero(folds != fold))
        rows = np.flatnonzero(folds == fold)
        held_out[rows] = scorer.right(choice)[rows]
        choices.append({**_described(choice, scorer, named), "top1": percent(float(held_out[rows].mean()))})
    first = scorer.right(next(iter(named.values())))
    own, differences = paired_intervals(np.stack([first, held_out]).astype(np.float64))
    return {
        "protocol": dict(subject),
        "num_clips": len(scorer.decoded),
        "num_undecodable": int((~scorer.decoded).sum()),
        "candidates": {
            name: {"num_templates": len(choice), "top1": percent(float(scorer.right(choice).mean()))}
            for name, choice in named.items()
        },
        "chosen": {**_described(chosen, scorer, named), "top1": percent(float(scorer.right(chosen).mean()))},
        "held_out": {
            "top1": percent(float(held_out.mean())),
            "interval": [percent(end) for end in own[1]],
            "difference": percent(float(held_out.mean() - first.mean())),
            "difference_interval": percent_interval(differences[1]),
        },
        "folds": choices,
        "note": "",
    }


def _described(choice: _Choice, scorer: _TemplateScorer, named: Mapping[str, _Choice]) -> dict[str, Any]:
    name = next((name for name, known in named.items() if sorted(known) == sorted(choice)), None)
    return {"name": name, "templates": [scorer.templates[index] for index in choice]}


def _keep(
    classify: Any, report: dict[str, Any], descriptions: Mapping[str, Any] | None, text_pooling: str | None
) -> None:
    """Give the processor the chosen templates, and the descriptions that they were chosen with; what was made with the
    former ones does not hold for others."""
    processor, notes = classify.processor, []
    is_described = keep_descriptions(processor, report["labels"], descriptions, text_pooling)
    if processor.prompt_templates == report["chosen"]["templates"] and not is_described:
        return
    processor.prompt_templates = list(report["chosen"]["templates"])
    if processor.calibration is not None:
        processor.calibration = None
        notes.append("The calibration of the former prompts is left out; fit it again with `--calibrate`.")
    if classify.model.config.id2label:
        notes.append(STORED_LABELS)
    report["note"] = " ".join(notes)
