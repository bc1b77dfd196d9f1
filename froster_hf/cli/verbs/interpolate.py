"""Write the weights between two checkpoints, or measure all the way from one to the other.

examples:
  froster interpolate clip-vit-base-patch16 run/weight-average --ratio 0.5 --output wise-ft
  froster interpolate clip-vit-base-patch16 run/weight-average --protocol base_to_novel_ucf101 \\
      --data root=UCF-101 annotations=ucfTrainTestlist --ratios 0,0.25,0.5,0.75,1 --output curve

Ratio 0 is the first checkpoint, 1 the second. With --protocol, the output folder gets curve.json and curve.png, the
accuracies on trained and on other classes against the ratio, and a result folder per ratio; run again after an
interruption, it resumes where it stopped.
"""

import argparse

from ...printing import printable
from ...settings import check_named, override_fields
from ..options import add_overwrite_argument

DEFAULT_RATIOS = "0,0.25,0.5,0.75,1"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `froster interpolate`."""
    parser.add_argument("first", metavar="FIRST", help="folder of a CLIP or FROSTER checkpoint, or small, at ratio 0")
    parser.add_argument("second", metavar="SECOND", help="folder of a checkpoint that was trained from it, at ratio 1")
    parser.add_argument(
        "--output", required=True, metavar="FOLDER", help="new folder of a checkpoint, or that of a curve"
    )
    parser.add_argument("--ratio", type=float, default=0.5, help="ratio of the checkpoint (default: %(default)s)")
    curve = parser.add_argument_group("curve")
    curve.add_argument("--protocol", metavar="PROTOCOL", help="evaluate by it; a name of `froster evaluate --list`")
    curve.add_argument("--data", nargs="+", default=[], metavar="FIELD=PATH", help="such as root=UCF-101")
    curve.add_argument("--ratios", metavar="A,B,C", help=f"(default: {DEFAULT_RATIOS})")
    curve.add_argument("--batch-size", type=int, default=8, help="clips computed together (default: %(default)s)")
    curve.add_argument("--num-workers", type=int, default=0, help="decoding processes (default: %(default)s)")
    add_overwrite_argument(curve, "the curve, and the evaluations in its folder")


def run(arguments: argparse.Namespace) -> int:
    """Interpolate once, or along the way."""
    from ...checkpoint_loading import checkpoint_path

    first, second = checkpoint_path(arguments.first), checkpoint_path(arguments.second)
    if arguments.protocol is None:
        if arguments.data or arguments.overwrite or arguments.ratios is not None:
            raise ValueError("--data, --ratios and --overwrite are for a curve: give --protocol, too.")
        from ...training.weights import interpolate

        print(printable(str(interpolate(first, second, arguments.ratio, output_dir=arguments.output))))
        return 0
    check_named(arguments.protocol, [], kind="protocol")
    given = DEFAULT_RATIOS if arguments.ratios is None else arguments.ratios
    try:
        ratios = [float(part) for part in given.split(",")]
    except ValueError as error:
        raise ValueError(f"--ratios is {given!r}; give numbers from 0 to 1, such as 0,0.5,1.") from error

    from ...training.interpolation_curve import interpolation_curve

    curve = interpolation_curve(
        first,
        second,
        protocol=arguments.protocol,
        data=override_fields({}, arguments.data),
        output_dir=arguments.output,
        ratios=ratios,
        batch_size=arguments.batch_size,
        num_workers=arguments.num_workers,
        overwrite=arguments.overwrite,
    )
    names = [name for name in curve if name != "ratios"]
    print("  ".join(["ratio", *names]))
    for index, ratio in enumerate(curve["ratios"]):
        print("  ".join([f"{ratio:<5g}", *(f"{curve[name][index]:>{len(name)}.1f}" for name in names)]))
    return 0
