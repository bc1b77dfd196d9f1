"""Evaluate checkpoints by a published protocol, on the official lists of a data set.

examples:
  froster evaluate --list
  froster evaluate base_to_novel_ucf101 --checkpoint froster-ucf --root UCF-101 --annotations ucfTrainTestlist \\
      --output result
  froster evaluate cross_dataset_hmdb51 --checkpoint froster-b16 --frozen openai/clip-vit-base-patch16 \\
      --root hmdb51 --annotations testTrainMulti_7030_splits --output result --precision bfloat16 --num-workers 8
  froster evaluate base_to_novel_k400 --checkpoint sample1 sample2 sample3 --root val --annotations val.csv \\
      --train-annotations train.csv --missing drop --output result
  froster evaluate temporal_detection_thumos14 --checkpoint froster-b16 --root test_videos \\
      --annotations TH14_Temporal_annotations_test/annotation --output result
  froster evaluate moving_shapes_actions "seeds=[7,8,9]" --checkpoint run/model --root videos --output result
  torchrun --nproc_per_node 2 --module froster_hf evaluate ...

Any field of a protocol can be given as field=value, right after its name. Run again after a kill, it goes on where it
was. The output folder gets result.json, result.md, plots/ and predictions/.
"""

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ...settings import check_named
from ..loading import load_checkpoint
from ..options import print_shipped

if TYPE_CHECKING:
    from ...evaluation.protocols import DetectionProtocol

DATA_FIELDS = ("root", "annotations", "train_annotations", "labels", "base_labels", "known_labels", "label_splits")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `froster evaluate`."""
    parser.add_argument("protocol", nargs="?", metavar="PROTOCOL", help="a shipped protocol's name, or a YAML file")
    parser.add_argument("overrides", nargs="*", metavar="FIELD=VALUE", help="such as num_views=1")
    parser.add_argument("--list", action="store_true", help="list the shipped protocols")
    parser.add_argument("--output", metavar="FOLDER", help="the result folder")
    parser.add_argument("--overwrite", action="store_true", help="delete the evaluation that is in the result folder")
    models = parser.add_argument_group("models")
    models.add_argument(
        "--checkpoint", nargs="+", metavar="MODEL", help="folders or names on the Hub; one a few-shot sample"
    )
    models.add_argument("--average", action="store_true", help="evaluate the mean of the checkpoints' weights")
    models.add_argument("--frozen", metavar="CLIP", help="also evaluate this model, and the ensembles with it")
    models.add_argument("--frozen-weight", type=float, default=0.5, help="in the ensembles (default: %(default)s)")
    models.add_argument(
        "--training-labels",
        metavar="FILE",
        help="JSON, what the checkpoints were trained on; with --frozen, writes label similarity against gain",
    )
    models.add_argument("--method", default="this checkpoint", help="name of the row in the table")
    models.add_argument("--descriptions", metavar="FILE", help="JSON, {label: description}")
    data = parser.add_argument_group("data")
    data.add_argument("--root", metavar="FOLDER", help="of the videos; those of moving shapes are rendered into it")
    data.add_argument("--annotations", metavar="PATH", help="official list of the tested clips, or its folder")
    data.add_argument("--train-annotations", metavar="PATH", help="K-400, SSv2: training list, to split the labels")
    data.add_argument("--labels", metavar="FILE", help="SSv2: the labels JSON")
    data.add_argument("--base-labels", metavar="FILE", help="the base half as a JSON list")
    data.add_argument("--known-labels", metavar="FILE", help="K-600: the labels of K-400, JSON")
    data.add_argument("--label-splits", nargs="+", metavar="FILE", help="K-600: a JSON list of labels a split")
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
    if arguments.protocol is None:
        raise ValueError("Which protocol? Give a name of `froster evaluate --list` or a .yaml file.")
    check_named(arguments.protocol, arguments.overrides, kind="protocol")
    if missing := [name for name in ("checkpoint", "root", "output") if not getattr(arguments, name)]:
        raise ValueError(f"Missing: {', '.join('--' + name for name in missing)}.")

    from accelerate import Accelerator

    from ...data import read_labels
    from ...evaluation import FrozenModel, evaluate_protocol
    from ...evaluation.protocols import EvaluationProtocol, load_protocol
    from ...evaluation.report import markdown_report
    from ...processing.label_files import read_descriptions
    from ...training.weights import average_models

    protocol = load_protocol(arguments.protocol, arguments.overrides)
    if not isinstance(protocol, EvaluationProtocol):
        return _detect(arguments, protocol)
    data = {name: getattr(arguments, name) for name in DATA_FIELDS if getattr(arguments, name) is not None}
    if arguments.training_labels and arguments.frozen is None:
        raise ValueError("--training-labels compares the gain over a frozen model: give --frozen, too.")
    training_labels = read_labels(arguments.training_labels) if arguments.training_labels else None
    frozen = None
    if arguments.frozen is not None:
        frozen = FrozenModel(_load(arguments.frozen).model, arguments.frozen_weight, training_labels)
    first = _load(arguments.checkpoint[0])
    models = _models(first, arguments.checkpoint[1:])
    accelerator = Accelerator()
    report = evaluate_protocol(
        protocol,
        models=average_models(models) if arguments.average else models,
        processor=first.processor,
        data={**data, "missing": arguments.missing, "allow_links": arguments.allow_links},
        output_dir=arguments.output,
        method=arguments.method,
        frozen=frozen,
        descriptions=read_descriptions(arguments.descriptions) if arguments.descriptions else None,
        batch_size=arguments.batch_size,
        num_workers=arguments.num_workers,
        precision=arguments.precision,
        accelerator=accelerator,
        overwrite=arguments.overwrite,
    )
    if accelerator.is_main_process:
        print(markdown_report(report))
    return 0


def _detect(arguments: argparse.Namespace, protocol: "DetectionProtocol") -> int:
    """Find actions in long videos, and print the table."""
    from transformers.utils.logging import tqdm

    from ...evaluation.temporal_detection import detection_markdown, evaluate_detection

    if len(arguments.checkpoint) > 1 or arguments.frozen is not None:
        raise ValueError(f"{protocol.name} evaluates one checkpoint: give one --checkpoint and no --frozen.")
    data = {name: getattr(arguments, name) for name in ("root", "annotations", "missing", "allow_links")}
    with tqdm(unit="video", disable=None) as progress:

        def show(done: int, total: int) -> None:
            progress.total = total
            progress.update(done - progress.n)

        report = evaluate_detection(
            protocol,
            classify=load_checkpoint(arguments.checkpoint[0], dtype="float32"),
            data=data,
            output_dir=arguments.output,
            method=arguments.method,
            overwrite=arguments.overwrite,
            batch_size=arguments.batch_size,
            on_video=show,
        )
    print(detection_markdown(report))
    return 0


def _load(name: str) -> Any:
    """A pipeline, which knows how to load FROSTER and plain CLIP checkpoints with their processors."""
    return load_checkpoint(name, device="cpu", dtype="float32")


def _models(first: Any, others: list[str]) -> Iterator[Any]:
    """One model after the other: a sample's weights are loaded when its turn comes."""
    yield first.model
    for name in others:
        yield _load(name).model
