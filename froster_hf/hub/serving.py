"""The two towers apart, for servers: a video goes through one graph, the labels through the other.

    pixel_values_videos (B, T, 3, S, S) -> video tower -> video_embeds (B, D)
    input_ids (n, L)                    -> text tower  -> text_embeds (n, D)
    logits = exp(logit_scale) * video_embeds @ label_embeds.T (+ logit_bias)

Labels change without a new export: run the text tower once on their prompts, average the P prompts of a label,
normalize, keep. B, T, n and L are free in the graphs; T is the model's own where its weights or its loop over frames
are tied to it. Each graph is run on other sizes than it was traced with, and compared with PyTorch,
before it counts as written.
"""

import errno
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from ..modeling.configuration_froster import estimate_parameters
from ..whole_files import full_disk_named, new_folder

TowerFormat = Literal["onnx", "torch_export"]
TOLERANCE = 1e-4
TOWERS_FILE = "towers.json"
# Of one clip; six are held. 64 frames of 512 pixels have 50 million.
MOST_CLIP_VALUES = 2**26
# Numbers of one tensor of the largest batch that a graph is checked on: graphs hold all scores of a layer's attention.
# Of 32 frames that `joint` compares with each other, ViT-B/16 has 1.4 * 10^9, 10 per parameter.
MOST_NUMBERS, MOST_NUMBERS_PER_PARAMETER = 2**26, 12


@dataclass(frozen=True)
class TowerReport:
    """A written tower.

    Args:
        file: its name in the folder.
        max_difference: from PyTorch, over the checked inputs, largest entry of the embeddings.
        min_cosine: between an embedding and PyTorch's, smallest over the checked inputs.
    """

    file: str
    max_difference: float
    min_cosine: float

    def __str__(self) -> str:
        return (
            f"tower     {self.file}: differs from PyTorch by {self.max_difference:.1e}, cosine {self.min_cosine:.6f}"
        )


class Tower(nn.Module):
    """A tower apart, whose `forward` is that of a graph."""

    def __init__(self, froster: nn.Module):
        super().__init__()
        # Its methods are known to no type checker.
        self.froster: Any = froster


class VideoTower(Tower):
    """`get_video_features` as a graph's forward."""

    def forward(self, pixel_values_videos: Tensor) -> Tensor:
        """(B, T, 3, S, S) to (B, D)."""
        return self.froster.get_video_features(pixel_values_videos, only_embeds=True).video_embeds


class TextTower(Tower):
    """`get_text_features` as a graph's forward."""

    def forward(self, input_ids: Tensor) -> Tensor:
        """(n, L) to (n, D), each of unit length."""
        return self.froster.get_text_features(input_ids, only_embeds=True).text_embeds


def export_towers(
    model: Any, folder: Path, *, formats: Sequence[TowerFormat] = ("onnx",), quantize: bool = False
) -> list[TowerReport]:
    """Write both towers, and `towers.json` with what a server needs besides.

    Args:
        model: a `FrosterForVideoClassification` or `FrosterModel`, in float32.
        folder: to write; must not exist, or be empty. It appears when it is complete.
        formats: `onnx`, for onnxruntime, and `torch_export`, for `torch.export.load`; none writes nothing.
        quantize: also write the ONNX towers with int8 weights (dynamic quantization), and measure what that changes.

    Returns:
        One report per file.

    Raises:
        ValueError: an unknown format, weights in another dtype, a folder that is taken, or a graph that differs from
            PyTorch by more than 1e-4.
        OSError: the disk is full.
        ImportError: `onnx`, `onnxscript` or `onnxruntime` is missing (the extra `export`).
    """
    if unknown := set(formats) - {"onnx", "torch_export"}:
        raise ValueError(f"Unknown formats {sorted(unknown)}; allowed are 'onnx' and 'torch_export'.")
    if quantize and "onnx" not in formats:
        raise ValueError("`quantize` writes ONNX files: add 'onnx' to the formats.")
    if not formats:
        return []
    froster = getattr(model, "froster", model)
    if froster.dtype != torch.float32:
        raise ValueError(
            f"The towers are exported from float32 weights, got {froster.dtype}. Load with dtype float32."
        )
    was_training = froster.training
    froster.eval()
    reports = []
    with new_folder(folder) as unfinished, full_disk_named(folder):
        for name, tower in (("video_tower", VideoTower(froster)), ("text_tower", TextTower(froster))):
            is_video = name == "video_tower"
            traced, *checked = _video_inputs(froster.config) if is_video else _text_inputs(froster.config)
            is_fixed = _frames_are_fixed(froster.config) if is_video else froster.config.text_length is not None
            free = [0] if is_fixed else [0, 1]
            with torch.no_grad():
                program = torch.export.export(
                    tower.eval(), (traced,), dynamic_shapes=(dict.fromkeys(free, Dim.DYNAMIC),), strict=False
                )
                pairs = [(inputs, tower(inputs)) for inputs in checked]
            for kind in formats:
                write = _write_onnx if kind == "onnx" else _write_torch
                reports.append(write(program, unfinished, name, pairs))
            if quantize:
                reports.append(_write_int8(unfinished, name, pairs))
        text = json.dumps(_about(froster, reports), indent=2)
        (unfinished / TOWERS_FILE).write_text(text + "\n", encoding="utf-8")
    froster.train(was_training)
    return reports


def _about(froster: Any, reports: Sequence[TowerReport]) -> dict[str, Any]:
    """What `towers.json` says."""
    config = froster.config
    side = config.vision_config.image_size
    frames = config.num_frames if _frames_are_fixed(config) else "T"
    return {
        "logit_scale": froster.logit_scale.exp().item(),
        **({} if froster.logit_bias is None else {"logit_bias": froster.logit_bias.item()}),
        "video_tower": {"pixel_values_videos": ["B", frames, 3, side, side]},
        "text_tower": {"input_ids": ["n", config.text_length or f"L <= {config.text_config.max_position_embeddings}"]},
        "checked": [asdict(report) for report in reports],
    }


def _frames_are_fixed(config: Any) -> bool:
    module, pooling = config.temporal_entries
    return any(entry.fixed_frames or entry.loops_over_frames for entry in (module, pooling))


def _video_inputs(config: Any) -> list[Tensor]:
    """The clips that a graph is traced with, and those of other sizes that it is checked on."""
    generator = torch.Generator().manual_seed(0)
    side, frames = config.vision_config.image_size, config.num_frames
    if (values := 3 * frames * side**2) > MOST_CLIP_VALUES:
        raise ValueError(
            f"A clip of {frames} frames of {side} x {side} pixels has {values} values; towers are traced with clips "
            f"of at most {MOST_CLIP_VALUES}."
        )
    costs = config.costs(frames)
    _refuse_many_numbers(
        config,
        3 * max(costs.attention_scores // config.vision_config.num_hidden_layers, costs.largest_tensor),
        f"clips of {frames} frames",
        advice="Its `num_frames`, or heads of its pooling, are too many for an export.",
    )
    if _frames_are_fixed(config):
        sizes = [(2, frames), (1, frames), (3, frames)]
    else:
        # A length of 1 would be traced as a constant; beyond the model's own, a pooling may lack positions.
        sizes = [(2, max(2, frames)), (1, frames), (3, max(1, frames - 1))]
    return [torch.randn(*size, 3, side, side, generator=generator) for size in sizes]


def _refuse_many_numbers(config: Any, numbers: int, what: str, *, advice: str) -> None:
    """Raise where a graph would have larger tensors than those of a model of this size have."""
    most = max(MOST_NUMBERS, MOST_NUMBERS_PER_PARAMETER * estimate_parameters(config))
    if numbers > most:
        raise ValueError(
            f"Graphs of {what} would have tensors of {numbers:.1e} numbers while they are checked; those of a model "
            f"of this size have at most {most:.1e}. {advice}"
        )


def _text_inputs(config: Any) -> list[Tensor]:
    text = config.text_config
    _refuse_many_numbers(
        config,
        3 * text.num_attention_heads * text.max_position_embeddings**2,
        f"texts of {text.max_position_embeddings} tokens",
        advice="Its text tower has too many positions (`max_position_embeddings`) for an export.",
    )
    generator = torch.Generator().manual_seed(0)
    longest = text.max_position_embeddings
    batches = []
    for count, length in [(2, min(8, longest)), (1, min(5, longest)), (3, longest)]:
        ids = torch.randint(0, text.vocab_size - 2, (count, config.text_length or length), generator=generator)
        if config.end_token_id is not None:
            ids[:, -1] = config.end_token_id
        batches.append(ids)
    return batches


def _write_torch(program: ExportedProgram, folder: Path, name: str, pairs: list[tuple[Tensor, Tensor]]) -> TowerReport:
    file = folder / f"{name}.pt2"
    # On a full disk, torch's own writer ends the process when it is deleted.
    content = io.BytesIO()
    torch.export.save(program, content)
    file.write_bytes(content.getbuffer())
    del content
    run = torch.export.load(file).module()
    with torch.no_grad():
        return _checked(file.name, [(run(inputs), expected) for inputs, expected in pairs])


def _write_onnx(program: ExportedProgram, folder: Path, name: str, pairs: list[tuple[Tensor, Tensor]]) -> TowerReport:
    file = folder / f"{name}.onnx"
    kind = name.removesuffix("_tower")
    exported: Any = torch.onnx.export(
        program,
        args=(),
        input_names=["pixel_values_videos" if kind == "video" else "input_ids"],
        output_names=[f"{kind}_embeds"],
        verbose=False,
    )
    try:
        exported.save(str(file), external_data=True)
    except OSError as error:
        # NumPy's error on a full disk has no number.
        raise OSError(error.errno or errno.ENOSPC, str(error)) from error
    return _checked(file.name, [(_run_onnx(file, inputs), expected) for inputs, expected in pairs])


def _write_int8(folder: Path, name: str, pairs: list[tuple[Tensor, Tensor]]) -> TowerReport:
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    file = folder / f"{name}.int8.onnx"
    graph = onnx.load(folder / f"{name}.onnx")
    # The quantizer infers shapes again, and takes those that the exporter noted for a contradiction.
    del graph.graph.value_info[:]
    quantize_dynamic(graph, file, op_types_to_quantize=["MatMul", "Gemm"], weight_type=QuantType.QInt8)
    found = [(_run_onnx(file, inputs), expected) for inputs, expected in pairs]
    # Rounded weights are meant to differ: the difference is reported, not limited.
    return _checked(file.name, found, tolerance=None)


def _run_onnx(file: Path, inputs: Tensor) -> Tensor:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {session.get_inputs()[0].name: inputs.numpy()})
    return torch.from_numpy(output)


def _checked(file: str, pairs: list[tuple[Tensor, Tensor]], *, tolerance: float | None = TOLERANCE) -> TowerReport:
    if not all(tensor.isfinite().all() for pair in pairs for tensor in pair):
        raise ValueError(f"{file} or the PyTorch model gives embeddings that are not finite; the weights are damaged.")
    difference = max(float((found - expected).abs().max()) for found, expected in pairs)
    cosine = min(float(torch.cosine_similarity(found, expected, dim=-1).min()) for found, expected in pairs)
    if tolerance is not None and not difference <= tolerance:
        raise ValueError(f"{file} differs from PyTorch by {difference:.1e}, more than {tolerance:.0e}.")
    return TowerReport(file, difference, cosine)
