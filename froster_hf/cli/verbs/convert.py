"""Convert a checkpoint of another code base, or the way back with --to.

The source's type is recognized and printed, and so is everything that had to be assumed or was left out.

examples:
  froster convert swa_2_22.pth froster-b16 --processor-from openai/clip-vit-base-patch16
  froster convert ViT-B-16.pt clip-b16
  froster convert vifi_clip_k400.pth vifi --token-embedding-from openai/clip-vit-base-patch16
  froster convert openai/clip-vit-base-patch16 student --temporal-module local_attention
  froster convert froster-b16 back.pth --to froster

Pickles are opened with weights_only in a process of their own, TorchScript archives without running their code.
"""

import argparse
import sys
from dataclasses import asdict

from ...conversion.layouts import LAYOUTS, written_layouts
from ...modeling.tables_froster import TEMPORAL_MODULES, TEMPORAL_POOLINGS
from ...printing import json_text, without_progress_bars
from ..options import add_overwrite_argument

# Arguments that are checkpoints.
CHECKPOINTS = ("source", "processor_from", "token_embedding_from", "teacher")
OF_THE_WAY_BACK = ("teacher", "overwrite")
OF_BOTH_WAYS = ("source", "output", "to", "json", "traceback", "run")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `froster convert`."""
    parser.add_argument(
        "source", metavar="SOURCE", help="a checkpoint file, or a CLIP: a folder, on the Hub, or small"
    )
    parser.add_argument("output", metavar="OUT", help="the folder to write, new or empty; with --to, the file")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    told = parser.add_argument_group("what the weights cannot show")
    told.add_argument(
        "--temporal-module",
        choices=tuple(TEMPORAL_MODULES),
        help="default: local_attention for FROSTER and Open-VCLIP, else none",
    )
    told.add_argument("--temporal-radius", type=int, metavar="N", help="radius of local_attention (default: 1)")
    told.add_argument("--num-frames", type=int, metavar="N", help="frames per clip in training (default: 8)")
    told.add_argument(
        "--temporal-pooling",
        choices=tuple(TEMPORAL_POOLINGS),
        help="default: mean, for ActionCLIP and ViFi-CLIP mean_unnormalized",
    )
    told.add_argument("--pooling-heads", type=int, metavar="N", help="heads of a pooling with attention")
    told.add_argument(
        "--hidden-act", metavar="NAME", help="activation of both towers, such as gelu (default: quick_gelu)"
    )
    told.add_argument("--layer-norm-eps", type=float, metavar="X", help="epsilon of both towers (default: 1e-5)")
    told.add_argument("--vision-heads", type=int, metavar="N", help="attention heads (default: heads of width 64)")
    told.add_argument("--text-heads", type=int, metavar="N", help="attention heads (default: heads of width 64)")
    told.add_argument("--layout", choices=tuple(LAYOUTS), help="whose names the source has (default: recognized)")
    parts = parser.add_argument_group("parts")
    parts.add_argument("--processor-from", metavar="CLIP", help="where the tokenizer comes from")
    parts.add_argument(
        "--token-embedding-from", metavar="CLIP", help="the CLIP that a ViFi-CLIP file was trained from"
    )
    parts.add_argument("--keep-projectors", action="store_true", help="keep FROSTER's distillation projectors")
    parts.add_argument("--teacher-output", metavar="FOLDER", help="write FROSTER's frozen teacher there")
    parts.add_argument(
        "--allow-unused", action="store_true", help="leave out tensors that are not known, and list them"
    )
    parts.add_argument("--max-shard-size", metavar="SIZE", help="largest weight file, such as 500MB (default: 5GB)")
    back = parser.add_argument_group("the way back")
    back.add_argument("--to", choices=written_layouts(), help="write OUT as a file of this code base")
    back.add_argument("--teacher", metavar="FOLDER", help="with --to froster: the CLIP that becomes raw_model.*")
    add_overwrite_argument(back, "the file that is there")


@without_progress_bars()
def run(arguments: argparse.Namespace) -> int:
    """Convert or export, and print the report."""
    from ...checkpoint_loading import checkpoint_path
    from ...conversion import ConversionReport, ExportReport, convert_checkpoint, write_original_checkpoint

    for name in CHECKPOINTS:
        if getattr(arguments, name) is not None:
            setattr(arguments, name, checkpoint_path(getattr(arguments, name)))
    # Those of `convert_checkpoint`, by its own names; where one is not given, its default is the function's.
    given = {
        name: value
        for name, value in vars(arguments).items()
        if name not in OF_BOTH_WAYS and value is not None and value is not False
    }
    back = {name: given.pop(name) for name in OF_THE_WAY_BACK if name in given}
    refused, when = (back, "with --to") if arguments.to is None else (given, "without --to")
    if refused:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in refused)
        raise ValueError(f"{options}: only {when}.")
    report: ConversionReport | ExportReport
    if arguments.to is not None:
        report = write_original_checkpoint(arguments.source, arguments.output, layout=arguments.to, **back)
    else:
        strict = not given.pop("allow_unused", False)
        report = convert_checkpoint(arguments.source, arguments.output, strict=strict, **given)
    encoding = sys.stdout.encoding or "utf-8"
    print(json_text(asdict(report), encoding=encoding, indent=1, default=str) if arguments.json else report)
    return 0
