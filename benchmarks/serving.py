"""What runs a video tower fastest on this machine: PyTorch as it is, compiled, or onnxruntime, in float32 and int8.

    python benchmarks/serving.py > benchmarks/serving.md
    python benchmarks/serving.py --device cuda        # PyTorch as it is and, in bfloat16, compiled

The shipped small model, and models of the shapes of CLIP ViT-B/32 and B/16 with random weights. The towers, exported
by the package (`export_towers`), get the same clips, and take turns. On a CPU one compute thread and its processor
time: what other programs do beside it counts less. Compiling and exporting are not counted, and are given beside.
Scores are a softmax over labels whose embeddings are the same for all: those that PyTorch makes of the prompts.
"""

import argparse
import logging
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from decoding import SCENES, choose_frames, render
from machine import command_line, describe_machine
from transformers.utils.logging import disable_progress_bar

from froster_hf import FrosterConfig, FrosterModel
from froster_hf.assets import SMALL_FROSTER
from froster_hf.video.decoding import VideoLimits
from froster_hf.video.reader import StrictReader

NUM_LABELS = 100
INTRODUCTION = """# What runs a video tower

`{command}`

{machine}; {timed}.
A clip of 8 frames, medians of {rounds} rounds in which the towers take turns; the ratio is taken within a round.
Largest differences from PyTorch in float32: of an entry of the embedding, which has unit length, and of a score, of a
softmax over {labels} labels. "With decoding": a video of 10 s, 340 x 256, of which decoding eight frames takes
{decoding:.0f} ms. "Prepared in": compiling, or exporting both towers with the comparison that it includes.
"""


@dataclass
class Flow:
    """A way to compute the embeddings (B, D) of the clips, with what was measured of it."""

    name: str
    embed: Callable[[], torch.Tensor]
    prepared: float = 0.0
    taken: list[float] = field(default_factory=list)


def build_models() -> Iterator[tuple[str, FrosterModel]]:
    """The models that are measured."""
    yield "shipped small", FrosterModel.from_pretrained(SMALL_FROSTER).eval()
    # The text tower is exported along, and kept small: it is not measured.
    for patch_size in (32, 16):
        towers = {"vision_config": {"patch_size": patch_size}, "text_config": {"num_hidden_layers": 1}}
        yield f"ViT-B/{patch_size}", FrosterModel(FrosterConfig(**towers)).eval()


def random_texts(config: FrosterConfig) -> torch.Tensor:
    """(K, L) tokens that end as texts do."""
    text = config.text_config
    texts = torch.randint(1, text.vocab_size - 3, (NUM_LABELS, 8))
    texts[:, -1] = text.vocab_size - 1 if config.end_token == "highest" else config.end_token
    return texts


def compiled(embed: Callable[[], torch.Tensor], name: str, **options: str) -> Flow:
    """The same, compiled; the first two calls are part of what it takes to prepare it."""
    start = time.perf_counter()
    run = torch.compile(embed, **options)
    for _ in range(2):
        run()
    return Flow(name, run, time.perf_counter() - start)


def cpu_flows(model: FrosterModel, clips: torch.Tensor, folder: Path) -> list[Flow]:
    """PyTorch, compiled, and onnxruntime; of ViT-B/16, which takes long, PyTorch alone."""
    import onnxruntime

    from froster_hf.hub.serving import export_towers

    def eager() -> torch.Tensor:
        return model.get_video_features(clips, only_embeds=True).video_embeds

    if model.config.vision_config.patch_size == 16:
        return [Flow("PyTorch", eager)]
    flows = [Flow("PyTorch", eager), compiled(eager, "torch.compile")]
    start = time.perf_counter()
    export_towers(model, folder, formats=["onnx"], quantize=True)
    exporting = time.perf_counter() - start
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    for name, file in (("onnxruntime", "video_tower.onnx"), ("onnxruntime, int8", "video_tower.int8.onnx")):
        session = onnxruntime.InferenceSession(str(folder / file), options, providers=["CPUExecutionProvider"])
        inputs = {session.get_inputs()[0].name: clips.numpy()}

        def embed(session=session, inputs=inputs) -> torch.Tensor:
            return torch.from_numpy(session.run(None, inputs)[0])

        flows.append(Flow(name, embed, exporting))
    return flows


def cuda_flows(model: FrosterModel, clips: torch.Tensor, folder: Path) -> list[Flow]:
    """PyTorch in float32, and in bfloat16 as it is, compiled, and compiled with CUDA graphs."""

    def embedder(dtype: torch.dtype) -> Callable[[], torch.Tensor]:
        def embed() -> torch.Tensor:
            with torch.autocast("cuda", dtype=dtype, enabled=dtype != torch.float32):
                return model.get_video_features(clips, only_embeds=True).video_embeds.float()

        return embed

    half = embedder(torch.bfloat16)
    flows = [Flow("PyTorch", embedder(torch.float32)), Flow("PyTorch, bfloat16", half)]
    for flow in flows:
        flow.embed()  # loads kernels
    flows.append(compiled(half, "torch.compile, bfloat16"))
    flows.append(compiled(half, "torch.compile with CUDA graphs, bfloat16", mode="reduce-overhead"))
    return flows


def decoding_seconds() -> float:
    """Processor time of decoding eight frames of a clip, with one thread."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        render(path, SCENES[0])
        taken = []
        for _ in range(5):
            start = time.process_time()
            with open(path, "rb") as file, StrictReader(file, limits=VideoLimits()) as reader:
                reader.read(choose_frames("uniform", 0, reader.info))
            taken.append(time.process_time() - start)
    return statistics.median(taken)


@torch.inference_mode()
def measure(
    name: str, model: FrosterModel, *, device: str, num_clips: int, rounds: int, decoding: float
) -> list[tuple[str, float]]:
    """The rows of a model; gives what each tower is called, and its seconds per clip."""
    vision = model.config.vision_config
    clock = time.perf_counter if device == "cuda" else time.process_time
    model.to(device)
    clips = torch.randn(num_clips, 8, 3, vision.image_size, vision.image_size, device=device)
    labels = model.get_label_embeds(random_texts(model.config).to(device))
    scale = model.logit_scale.exp()
    with tempfile.TemporaryDirectory() as folder:
        flows = (cuda_flows if device == "cuda" else cpu_flows)(model, clips, Path(folder) / "towers")
        for _ in range(rounds):
            for flow in flows:
                start = clock()
                flow.embed()
                if device == "cuda":
                    torch.cuda.synchronize()
                flow.taken.append(clock() - start)
        found_seconds = []
        expected = flows[0].embed().clone()
        for flow in flows:
            faster = statistics.median(base / taken for base, taken in zip(flows[0].taken, flow.taken))
            own, eager = (statistics.median(other.taken) / num_clips for other in (flow, flows[0]))
            found_seconds.append((f"{name}, {flow.name}", own))
            together = (decoding + eager) / (decoding + own)
            found = flow.embed().clone()
            difference = (found - expected).abs().max()
            scores, theirs = ((scale * embeds @ labels.T).softmax(-1) for embeds in (found, expected))
            print(
                f"| {name} | {flow.name} | {faster:.2f} | {own * 1000:.1f} | {together:.2f} | {difference:.0e} | "
                f"{(scores - theirs).abs().max():.0e} | {flow.prepared:.0f} s |",
                flush=True,
            )
    return found_seconds


def print_fleet(measured: list[tuple[str, float]], *, decoding: float, price: float) -> None:
    """What a million videos take, on cores alone."""
    print(f"\n## A fleet\n\nOf cores like this one, each decoding and computing; at {price} dollars per core hour.\n")
    print("| tower | seconds per video | videos per hour and core | core hours per million | dollars per million |")
    print("| --- | --- | --- | --- | --- |")
    for name, own in measured:
        seconds = decoding + own
        hours = 1e6 * seconds / 3600
        print(f"| {name} | {seconds:.2f} | {3600 / seconds:,.0f} | {hours:,.0f} | {hours * price:,.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--clips", type=int, default=1, help="clips of a batch (default: 1)")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--price", type=float, default=0.04, help="dollars per core hour (default: %(default)s)")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    # Of the exporter and the quantizer, which is not part of the table.
    logging.disable(logging.WARNING)
    disable_progress_bar()
    machine, timed = describe_machine(), "one thread, processor time"
    if arguments.device == "cuda":
        machine, timed = f"{machine}, {torch.cuda.get_device_name()}", "wall time"
    else:
        torch.set_num_threads(1)
    decoding = decoding_seconds()
    print(
        INTRODUCTION.format(
            command=command_line(),
            machine=machine,
            timed=timed,
            rounds=arguments.rounds,
            labels=NUM_LABELS,
            decoding=1000 * decoding,
        )
    )
    print(
        "| model | run by | times as fast as PyTorch | ms per clip | with decoding | embeddings differ "
        "| scores differ | prepared in |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    options = {"device": arguments.device, "num_clips": arguments.clips, "decoding": decoding}
    measured = []
    for name, model in build_models():
        measured += measure(name, model, rounds=arguments.rounds, **options)
    if arguments.device == "cpu":
        print_fleet(measured, decoding=decoding, price=arguments.price)


if __name__ == "__main__":
    main()
