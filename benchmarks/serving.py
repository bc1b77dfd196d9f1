"""What runs a video tower fastest on this machine: PyTorch as it is, compiled, or onnxruntime, in float32 and int8.

    python benchmarks/serving.py > benchmarks/serving.md

The towers are exported by the package (`export_towers`), get the same clips, and take turns. Wall time of all threads
that the machine has; compiling and exporting are not counted, and are given beside.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import onnxruntime
import torch
from machine import command_line, describe_machine

from froster_hf import FrosterConfig, FrosterModel
from froster_hf.hub.serving import export_towers


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patch-size", type=int, default=32, help="of ViT-B (default: 32)")
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    # The text tower is exported along, and kept small: it is not measured.
    towers = {"vision_config": {"patch_size": arguments.patch_size}, "text_config": {"num_hidden_layers": 1}}
    model = FrosterModel(FrosterConfig(**towers)).eval()
    clips = torch.randn(1, 8, 3, 224, 224)

    def eager() -> torch.Tensor:
        return model.get_video_features(clips, only_embeds=True).video_embeds

    flows: dict[str, Callable[[], torch.Tensor]] = {"PyTorch": eager}
    prepared = {"PyTorch": 0.0}
    start = time.perf_counter()
    compiled = torch.compile(lambda pixels: model.get_video_features(pixels, only_embeds=True).video_embeds)
    compiled(clips)
    flows["torch.compile"], prepared["torch.compile"] = lambda: compiled(clips), time.perf_counter() - start
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        export_towers(model, Path(folder), formats=["onnx"], quantize=True)
        exporting = time.perf_counter() - start
        for name, file in (("onnxruntime", "video_tower.onnx"), ("onnxruntime, int8", "video_tower.int8.onnx")):
            session = onnxruntime.InferenceSession(str(Path(folder) / file))
            inputs = {session.get_inputs()[0].name: clips.numpy()}
            flows[name] = lambda session=session, inputs=inputs: torch.from_numpy(session.run(None, inputs)[0])
            prepared[name] = exporting
        expected = eager()
        taken: dict[str, list[float]] = {name: [] for name in flows}
        for _ in range(arguments.rounds):
            for name, flow in flows.items():
                start = time.perf_counter()
                flow()
                taken[name].append(time.perf_counter() - start)
        print(f"# What runs a video tower\n\n`{command_line()}`\n\n{describe_machine()}.")
        print(f"ViT-B/{arguments.patch_size}, a clip of 8 frames, medians of {arguments.rounds} paired rounds.\n")
        print("| run by | times as fast as PyTorch | largest difference | prepared in |")
        print("| --- | --- | --- | --- |")
        for name, found in taken.items():
            faster = statistics.median(base / own for base, own in zip(taken["PyTorch"], found))
            difference = (flows[name]() - expected).abs().max()
            print(f"| {name} | {faster:.2f} | {difference:.0e} | {prepared[name]:.0f} s |")


if __name__ == "__main__":
    main()
