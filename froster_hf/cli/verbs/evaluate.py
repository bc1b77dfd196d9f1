"""Measure models on your own labeled videos, or by a published protocol.

examples:
  froster evaluate my_videos --model my-model                         # a folder with one folder per class
  froster evaluate list.csv --root videos --model my-model openai/clip-vit-base-patch32
  froster evaluate scenes.jsonl --multi-label --model my-model --calibrate
  froster evaluate list.csv --model my-model --choose-templates       # which prompts fit? measured by cross-validation
  froster evaluate --list
  froster evaluate base_to_novel_ucf101 --model froster-ucf --root UCF-101 --annotations ucfTrainTestlist
  froster evaluate cross_dataset_hmdb51 --model froster-b16 --frozen openai/clip-vit-base-patch16 \\
      --root hmdb51 --annotations testTrainMulti_7030_splits --output result --precision bfloat16 --num-workers 8
  froster evaluate base_to_novel_k400 --model sample1 sample2 sample3 --root val --annotations val.csv \\
      --train-annotations train.csv --missing drop --output result
  froster evaluate temporal_detection_thumos14 --model froster-b16 --root test_videos \\
      --annotations TH14_Temporal_annotations_test/annotation --output result
  froster evaluate moving_shapes_actions "seeds=[7,8,9]" --model small --root videos --output result
  torchrun --nproc_per_node 2 --module froster_hf evaluate ...

Of your own videos, the result folder gets index.html: accuracies with intervals, confusions in words, and pictures of
the videos that went wrong. Several models are compared with the first, on the same videos. Lists are CSV, JSON Lines
or `path label` per line; with --multi-label, the labels of a video stand in one field with | between them, or in
several lines.

Any field of a protocol can be given as field=value, right after its name. Run again after an interruption, without
--overwrite, it resumes where it stopped. The output folder gets result.json, result.md, plots/ and predictions/; with
--overwrite, those of an earlier evaluation stay until the new ones are there.
"""

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...printing import printable
from ...processing.label_files import SHIPPED_DESCRIPTIONS, read_descriptions
from ...settings import check_named
from ..loading import end_process_group, load_checkpoint
from ..options import (
    DEFAULT_MODEL,
    add_overwrite_argument,
    add_text_pooling,
    given_background,
    names_videos,
    print_shipped,
)

if TYPE_CHECKING:
    from ...evaluation.protocols import DetectionProtocol
    from ...processing.processing_froster import FrosterProcessor

DATA_FIELDS = ("root", "annotations", "train_annotations", "labels", "base_labels", "known_labels", "label_splits")
# What would have no effect is refused.
CLIP_PROTOCOL_OPTIONS = ("average", "frozen", "frozen_weight", "training_labels", *DATA_FIELDS[2:])
OWN_VIDEOS_OPTIONS = ("multi_label", "calibrate", "choose_templates")
TEXT_OPTIONS = ("descriptions", "text_pooling")
WITHOUT_EFFECT = {
    "own videos": ("annotations", "background", *(name for name in CLIP_PROTOCOL_OPTIONS if name != "labels")),
    "a protocol of clips": ("background", *OWN_VIDEOS_OPTIONS),
    "temporal detection": (*OWN_VIDEOS_OPTIONS, *CLIP_PROTOCOL_OPTIONS, *TEXT_OPTIONS, "num_workers", "precision"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `froster evaluate`."""
    parser.add_argument(
        "what",
        nargs="?",
        metavar="WHAT",
        help="a folder of class folders, a list of videos and labels, or a protocol: a shipped name, or a .yaml file",
    )
    parser.add_argument("overrides", nargs="*", metavar="FIELD=VALUE", help="such as num_views=1")
    parser.add_argument("--list", action="store_true", help="list the shipped protocols")
    parser.add_argument("--output", metavar="FOLDER", help="the result folder (default: runs/evaluate-WHAT)")
    add_overwrite_argument(parser, "the evaluation in the result folder")
    models = parser.add_argument_group("models")
    models.add_argument(
        "--model",
        nargs="+",
        default=[DEFAULT_MODEL],
        metavar="MODEL",
        help="folders or names on the Hub, or small, the shipped one; of own videos, the others are compared with the "
        "first; of a protocol, one per few-shot sample; of temporal detection, one row each "
        f"(default: {DEFAULT_MODEL}, not published yet)",
    )
    models.add_argument("--average", action="store_true", help="evaluate the mean of the checkpoints' weights")
    models.add_argument("--frozen", metavar="CLIP", help="also evaluate this model, and the ensembles with it")
    models.add_argument("--frozen-weight", type=float, help="its weight in the ensembles (default: equal weights)")
    models.add_argument(
        "--training-labels",
        metavar="FILE",
        help="JSON, what the checkpoints were trained on; with --frozen, writes label similarity against gain",
    )
    models.add_argument("--method", default="this checkpoint", help="name of the row in the table")
    models.add_argument(
        "--descriptions",
        metavar="FILE",
        help="JSON, {label: description} or {label: [description, ...]}; or one that ships: "
        f"{', '.join(SHIPPED_DESCRIPTIONS)}",
    )
    add_text_pooling(models)
    models.add_argument(
        "--background",
        metavar="A,B,C",
        help="temporal detection: things that each label is compared with; or a file of them (default: those of each "
        "checkpoint; one of a toy world has none)",
    )
    own = parser.add_argument_group("own videos")
    own.add_argument("--multi-label", action="store_true", help="a video may show several actions, or none")
    own.add_argument(
        "--calibrate",
        action="store_true",
        help="fit the probabilities of --multi-label to this list, and save the first model with them in the result "
        "folder",
    )
    own.add_argument(
        "--choose-templates",
        nargs="?",
        const="sets",
        choices=("sets", "greedy"),
        help="choose the checkpoint's prompt templates by this list, with cross-validation: the best set of the "
        "package (sets), or single templates one by one (greedy); saves the checkpoint with them in the result folder",
    )
    data = parser.add_argument_group("data")
    data.add_argument(
        "--root",
        metavar="FOLDER",
        help="folder of the videos (default for a list: its own folder); moving shapes are rendered into it",
    )
    data.add_argument("--annotations", metavar="PATH", help="official list of the tested clips, or its folder")
    data.add_argument("--train-annotations", metavar="PATH", help="K-400, SSv2: training list, to split the labels")
    data.add_argument(
        "--labels",
        metavar="FILE",
        help="own list: its labels, with descriptions if you like (see --descriptions); SSv2: the labels JSON",
    )
    data.add_argument("--base-labels", metavar="FILE", help="the base half as a JSON list")
    data.add_argument("--known-labels", metavar="FILE", help="K-600: the labels of K-400, JSON")
    data.add_argument("--label-splits", nargs="+", metavar="FILE", help="K-600: a JSON list of labels per split")
    data.add_argument(
        "--missing", choices=("error", "drop", "keep"), default="error", help="listed videos that are not there"
    )
    data.add_argument("--allow-links", action="store_true", help="links may lead out of the folder of the videos")
    speed = parser.add_argument_group("speed")
    speed.add_argument("--batch-size", type=int, default=8, help="clips computed together (default: %(default)s)")
    speed.add_argument("--num-workers", type=int, default=0, help="decoding processes (default: %(default)s)")
    speed.add_argument("--precision", choices=("float32", "bfloat16", "float16"), default="float32")


def run(arguments: argparse.Namespace) -> int:
    """Evaluate, and print the table."""
    if arguments.list:
        print_shipped("protocol")
        return 0
    if arguments.what is None:
        raise ValueError(
            "What is to be measured? Give a folder with one folder per class, a list of videos and labels, or a "
            "name of `froster evaluate --list`."
        )
    if len(set(arguments.model)) < len(arguments.model):
        raise ValueError(f"--model names {printable(max(arguments.model, key=arguments.model.count))} more than once.")
    output = arguments.output or f"runs/evaluate-{_named(arguments.what).stem}"
    evaluate = _run_own if names_videos(arguments.what, kind="protocol", verb="evaluate") else _run_protocol
    code = evaluate(arguments, output)
    end_process_group()
    return code


def _named(what: str) -> Path:
    """What results are called by; `.` and `..` have names of their own."""
    return Path(os.path.abspath(what))


def _run_own(arguments: argparse.Namespace, output: str) -> int:
    if arguments.overrides:
        raise ValueError(
            f"{printable(arguments.overrides[0])}: fields are for protocols; own videos have options only."
        )
    _refuse_options(arguments, "own videos")

    from accelerate import Accelerator

    from ...data import read_videos
    from ...evaluation import evaluate_videos
    from ...evaluation.page import markdown_of_list
    from ...processing.label_files import read_label_file

    labels = read_label_file(arguments.labels) if arguments.labels else None
    texts = _texts(arguments)
    if texts["descriptions"] is None and labels is not None and labels.descriptions is not None:
        texts["descriptions"] = dict(labels.pairs)
    table = read_videos(
        arguments.what,
        root=arguments.root,
        labels=labels,
        multi_label=arguments.multi_label,
        missing=arguments.missing,
        allow_links=arguments.allow_links,
    )
    accelerator = Accelerator()
    if arguments.choose_templates:
        return _choose_templates(arguments, table, texts, accelerator, output)
    report = evaluate_videos(
        table,
        name=_named(arguments.what).name,
        models={name: _load(name) for name in arguments.model},
        output_dir=output,
        calibrate=arguments.calibrate,
        **texts,
        accelerator=accelerator,
        overwrite=arguments.overwrite,
        **_computing(arguments),
    )
    if accelerator.is_main_process:
        print(markdown_of_list(report))
        mistakes, page = len(report["mistakes"]), f"{printable(output)}/index.html"
        print(f"Videos that went wrong: {mistakes}; their pictures are in {page}" if mistakes else f"The page: {page}")
    return 0


def _choose_templates(
    arguments: argparse.Namespace, table: Any, texts: dict[str, Any], accelerator: Any, output: str
) -> int:
    """Choose the templates of one checkpoint, and print what that is worth."""
    from ...evaluation.template_choice import choose_templates, markdown_of_choice

    if len(arguments.model) > 1 or arguments.calibrate:
        raise ValueError("--choose-templates is for one --model; compare others, and calibrate, when they are chosen.")
    report = choose_templates(
        table,
        classify=_load(arguments.model[0]),
        output_dir=output,
        search=arguments.choose_templates,
        name=_named(arguments.what).name,
        accelerator=accelerator,
        overwrite=arguments.overwrite,
        **texts,
        **_computing(arguments),
    )
    if accelerator.is_main_process:
        print(markdown_of_choice(report))
    return 0


def _refuse_options(arguments: argparse.Namespace, kind: str) -> None:
    for name in WITHOUT_EFFECT[kind]:
        if getattr(arguments, name) not in (None, False, 0, "float32"):
            raise ValueError(f"--{name.replace('_', '-')} has no effect on {kind}; leave it out.")


def _texts(arguments: argparse.Namespace) -> dict[str, Any]:
    descriptions = read_descriptions(arguments.descriptions) if arguments.descriptions else None
    return {"descriptions": descriptions, "text_pooling": arguments.text_pooling}


def _computing(arguments: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(arguments, name) for name in ("batch_size", "num_workers", "precision")}


def _run_protocol(arguments: argparse.Namespace, output: str) -> int:
    check_named(arguments.what, arguments.overrides, kind="protocol")
    if arguments.root is None:
        raise ValueError("Missing: --root, the folder of the videos.")
    if arguments.training_labels and arguments.frozen is None:
        raise ValueError("--training-labels compares the gain over a frozen model: give --frozen, too.")

    from accelerate import Accelerator

    from ...data import read_labels
    from ...evaluation import FrozenModel, evaluate_protocol
    from ...evaluation.protocols import EvaluationProtocol, load_protocol
    from ...evaluation.report import markdown_report
    from ...training.weights import average_models

    protocol = load_protocol(arguments.what, arguments.overrides)
    if not isinstance(protocol, EvaluationProtocol):
        return _detect(arguments, protocol, output)
    _refuse_options(arguments, "a protocol of clips")
    data = {name: getattr(arguments, name) for name in DATA_FIELDS if getattr(arguments, name) is not None}
    training_labels = read_labels(arguments.training_labels) if arguments.training_labels else None
    frozen = None
    if arguments.frozen is not None:
        weight = {} if arguments.frozen_weight is None else {"weight": arguments.frozen_weight}
        clip = _load(arguments.frozen)
        frozen = FrozenModel(clip.model, training_labels=training_labels, processor=clip.processor, **weight)
    first = _load(arguments.model[0])
    pairs = _pairs(first, arguments.model[1:])
    accelerator = Accelerator()
    report = evaluate_protocol(
        protocol,
        models=average_models(_alike(pairs, arguments.model)) if arguments.average else pairs,
        processor=first.processor,
        data={**data, "missing": arguments.missing, "allow_links": arguments.allow_links},
        output_dir=output,
        method=arguments.method,
        frozen=frozen,
        **_texts(arguments),
        accelerator=accelerator,
        overwrite=arguments.overwrite,
        **_computing(arguments),
    )
    if accelerator.is_main_process:
        print(markdown_report(report))
    return 0


def _detect(arguments: argparse.Namespace, protocol: "DetectionProtocol", output: str) -> int:
    """Find actions in long videos, and print the table."""
    from transformers.utils.logging import tqdm

    from ...evaluation.temporal_detection import detection_markdown, evaluate_detection

    _refuse_options(arguments, "temporal detection")
    names = arguments.model if len(arguments.model) > 1 else [arguments.method]
    models = {name: load_checkpoint(checkpoint, dtype="float32") for name, checkpoint in zip(names, arguments.model)}
    data = {name: getattr(arguments, name) for name in ("root", "annotations", "missing", "allow_links")}
    with tqdm(unit="video", disable=None) as progress:

        def show(done: int, total: int) -> None:
            progress.total = total
            progress.update()

        report = evaluate_detection(
            protocol,
            models=models,
            data=data,
            output_dir=output,
            background_labels=given_background(arguments),
            overwrite=arguments.overwrite,
            batch_size=arguments.batch_size,
            on_video=show,
        )
    print(detection_markdown(report))
    return 0


def _load(name: str) -> Any:
    """A pipeline, which knows how to load FROSTER and plain CLIP checkpoints with their processors."""
    return load_checkpoint(name, device="cpu", dtype="float32")


def _pairs(first: Any, others: list[str]) -> Iterator[tuple[Any, "FrosterProcessor"]]:
    """One model and its processor after the other: a sample's weights are loaded when its turn comes."""
    yield first.model, first.processor
    for name in others:
        classify = _load(name)
        yield classify.model, classify.processor


def _alike(pairs: Iterator[tuple[Any, "FrosterProcessor"]], names: list[str]) -> Iterator[Any]:
    """The models, if a mean of their weights can be given what the first one is given."""
    from ...processing.same_inputs import refuse_other_inputs

    first = None
    for name, (model, processor) in zip(names, pairs):
        first = first or processor
        refuse_other_inputs(first, processor, names=(names[0], name))
        yield model
