"""Show what is installed and what is missing, which decoders work, and on which device a model would run.

example:
  froster info --json
"""

import argparse
import platform
import sys
from importlib import metadata
from typing import Any

from ... import __version__
from ...checkpoint_loading import DEFAULT_MODEL, SHIPPED_CHECKPOINTS
from ...extras import EXTRAS, how_to_install, is_installed
from ...printing import json_text, printable
from ...video.backends import BACKENDS

PACKAGES = (
    "torch",
    "torchvision",
    "transformers",
    "accelerate",
    "datasets",
    *(name for backend in BACKENDS.values() for name in backend.distributions),
    "peft",
    "onnxruntime",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `froster info`."""
    parser.add_argument("--json", action="store_true", help="print JSON in place of a table")


def run(arguments: argparse.Namespace) -> int:
    """Print what there is; 1 if no decoder works."""
    information = collect()
    if arguments.json:
        print(json_text(information, encoding=sys.stdout.encoding or "utf-8", indent=1))
    else:
        for title, entries in information.items():
            print(title)
            for name, value in entries.items():
                print(f"  {name:<14}{printable(str(value))}")
    return 0 if "works" in information["decoders"].values() else 1


def collect() -> dict[str, dict[str, Any]]:
    """Versions, decoders and devices."""
    return {
        "versions": {
            "python": platform.python_version(),
            "froster-hf": __version__,
            **{name: _version(name) for name in PACKAGES},
        },
        "decoders": {backend: _try_decoder(backend) for backend in BACKENDS},
        "optional": {
            name: "installed"
            if is_installed(name)
            else f"not installed; brings {extra.brings}: {how_to_install(name)}"
            for name, extra in EXTRAS.items()
        },
        "device": _describe_device(),
        "models": {
            **{name: f"ships with the package: {path}" for name, path in SHIPPED_CHECKPOINTS.items()},
            "default": f"{DEFAULT_MODEL}, not published yet; any other by --model, such as small",
        },
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _try_decoder(backend: Any) -> str:
    """Whether a backend reads a small video that is made on the spot."""
    from ...video.decoding import decode_frames

    try:
        frames, _ = decode_frames(_render_video(), [0, 7, 3], backend=backend)
    except (ImportError, ValueError) as error:
        return f"does not work: {error}"
    brightness = frames.float().mean(dim=(1, 2, 3))
    in_order = bool(brightness[0] < brightness[2] < brightness[1])
    return "works" if in_order else "does not work: it returned other frames than asked for"


def _render_video() -> bytes:
    """Eight frames that become brighter, as MPEG-4 in mp4."""
    import io

    import av
    import numpy as np

    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=8, width=32, height=32, pix_fmt="yuv420p")
        for index in range(8):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 25 * index, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return buffer.getvalue()


def _describe_device() -> dict[str, Any]:
    import torch

    from ...pipeline.scoring_froster import ARITHMETIC, has_arithmetic

    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    device: dict[str, Any] = {"default": str(accelerator or "cpu"), "cpu threads": torch.get_num_threads()}
    fast = [torch.float32, *filter(has_arithmetic, ARITHMETIC)]
    device["cpu computes"] = ", ".join(str(dtype).removeprefix("torch.") for dtype in fast)
    if accelerator is not None and accelerator.type == "cuda":
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            device[f"cuda:{index}"] = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
    return device
