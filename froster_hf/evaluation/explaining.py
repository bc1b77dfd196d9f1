"""`explain_video`: which regions of a video a prediction looks at, as a picture strip and an animated GIF.

There are two maps (T, h, w) over the patches of a clip:

- `attention_rollout` (Abnar and Zuidema, arXiv 2005.00928): products of the layers' attention, half of it kept for the
  residual path. It asks where information can come from, and knows nothing of a label. Attention to neighboring frames
  is followed to those frames.
- `gradient_map` (HiResCAM, Draelos and Carin, arXiv 2011.08891): gradient of one label's logit times the activation
  of the patch tokens behind the first layer norm of the last block. It asks what speaks for that label. In front of
  that norm the product would vanish: a norm does not see the length of a token.

Letters: T frames, N tokens per frame (class token first), H heads, W width, h x w patches, D embedding, K labels.
"""

import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from ..extras import import_extra
from ..printing import printable
from ..processing.processing_froster import FrosterProcessor
from ..processing.same_inputs import pixel_values
from ..whole_files import folder_for_results, refuse_results, written_whole

# Threads take turns with a model's implementation of attention, and with what is done with compiled graphs.
_SWITCHING = threading.Lock()

MapMethod = Literal["rollout", "gradient"]

# Tensors of a layer's size that eager attention holds at once: scores, and weights in float32 and in the model's type.
EAGER_TENSORS = 3

# Pictures: least side of a frame and the gap between two in pixels; weight of a map's color at its highest value; and
# pixels of all frames, of which 128 of 512 x 512 have as many.
SMALLEST_SIDE, STRIP_GAP, MOST_COLOR, MOST_PIXELS = 192, 4, 0.6, 2**25


@dataclass(frozen=True)
class Explanation:
    """Maps that `explain_video` computed, and the files that it wrote.

    Args:
        label: that was explained.
        probability: probability of the label among the candidates.
        maps: by method, (T, h, w), not negative.
        strips: by method, the PNG of all frames, originals above their maps.
        animations: by method, the GIF.
    """

    label: str
    probability: float
    maps: dict[str, torch.Tensor]
    strips: dict[str, Path]
    animations: dict[str, Path]


def explain_video(
    model: nn.Module,
    processor: FrosterProcessor,
    video: Any,
    *,
    label: str,
    output_dir: str | os.PathLike,
    candidate_labels: Sequence[str] = (),
    methods: Sequence[MapMethod] = ("rollout", "gradient"),
    frame_milliseconds: int = 400,
    overwrite: bool = False,
) -> Explanation:
    """Draws the attention rollout and the gradient map of a label over the frames of a video.

    Args:
        model: `FrosterForVideoClassification`.
        processor: pixels and prompts.
        video: whatever the video processor takes.
        label: whose score is explained.
        output_dir: folder of the pictures `rollout.png`, `rollout.gif`, `gradient.png`, `gradient.gif`.
        candidate_labels: labels to tell it from; they set the reported probability only.
        methods: which maps.
        frame_milliseconds: how long the animation shows a frame.
        overwrite: replace the pictures of these methods that are in `output_dir`.

    Raises:
        ResultExistsError: a picture of these methods is in `output_dir`.
        TypeError: `candidate_labels` is a text.
        ValueError: an unknown method, or a link in the place of `output_dir`.
        VideoDecodeError: the video cannot be decoded.
    """
    if unknown := sorted(set(methods) - {"rollout", "gradient"}):
        raise ValueError(f"Unknown methods {unknown}; choose among 'rollout' and 'gradient'.")
    if isinstance(candidate_labels, str):
        raise TypeError(
            f"`candidate_labels` is a text, {printable(repr(candidate_labels), limit=60)}; give a list of labels."
        )
    labels = list(dict.fromkeys([label, *candidate_labels]))
    refuse_pictures(output_dir, methods, overwrite=overwrite)
    # Made before the work, which would be lost where it cannot be.
    with folder_for_results(output_dir) as folder:
        return _explain(model, processor, video, labels, folder, methods, frame_milliseconds, overwrite)


def picture_files(folder: str | os.PathLike, method: str) -> tuple[Path, Path]:
    """The strip and the animation of a method."""
    return Path(folder) / f"{method}.png", Path(folder) / f"{method}.gif"


def refuse_pictures(folder: str | os.PathLike, methods: Sequence[str], *, overwrite: bool) -> None:
    """Raise where pictures of these methods would be replaced that are there; see `refuse_results`."""
    refuse_results(*(file for method in methods for file in picture_files(folder, method)), overwrite=overwrite)


def _explain(
    model: nn.Module,
    processor: FrosterProcessor,
    video: Any,
    labels: list[str],
    folder: Path,
    methods: Sequence[MapMethod],
    frame_milliseconds: int,
    overwrite: bool,
) -> Explanation:
    """The maps of the first of the labels, and their pictures."""
    pixels = processor.video_processor(video, num_views=1, num_crops=1, return_tensors="pt")["pixel_values_videos"]
    frames = enlarged(shown_frames(pixels[0], processor))
    device = next(model.parameters()).device
    pixels = pixels.to(device)
    model.eval()
    text_embeds = processor.embed_labels(labels, model=model)
    with torch.no_grad():
        logits = model(pixel_values_videos=pixels, text_embeds=text_embeds).logits[0]
    if not logits.isfinite().all():
        raise ValueError("The model gave logits that are infinite or NaN: there is nothing to explain.")
    maps: dict[str, torch.Tensor] = {}
    if "rollout" in methods:
        maps["rollout"] = attention_rollout(model, pixels).cpu()
    if "gradient" in methods:
        maps["gradient"] = gradient_map(model, pixels, text_embeds=text_embeds, label_index=0).cpu()
    for method, values in maps.items():
        if not values.isfinite().all():
            raise ValueError(
                f"The {method} map has values that are infinite or NaN: there is nothing to show. The weights are "
                "damaged, or too large for the map's products."
            )
    strips, animations = {}, {}
    for method, values in maps.items():
        overlaid = overlay(frames, values)
        strip, animation = picture_files(folder, method)
        strips[method] = _save_strip(frames, overlaid, strip, overwrite)
        animations[method] = _save_animation(overlaid, animation, frame_milliseconds, overwrite)
    return Explanation(labels[0], float(logits.softmax(-1)[0]), maps, strips, animations)


def shown_frames(pixels: torch.Tensor, processor: FrosterProcessor) -> np.ndarray:
    """The frames as the model sees them, cropped, back to uint8: (T, 3, S, S) to (T, S, S, 3)."""
    values = pixel_values(processor.video_processor)
    factor, mean, std = (
        torch.tensor(values[name]).view(3, 1, 1) for name in ("rescale_factor", "image_mean", "image_std")
    )
    frames = ((pixels.float().cpu() * std + mean) / factor).clamp(0, 255)
    return frames.round().byte().permute(0, 2, 3, 1).numpy()


def enlarged(frames: np.ndarray) -> np.ndarray:
    """Small frames (T, S, S, 3) by a whole factor, so that people can see what the model saw.

    Raises:
        ValueError: they have more pixels than are drawn.
    """
    factor = -(-SMALLEST_SIDE // frames.shape[1])
    num_pixels = len(frames) * (factor * frames.shape[1]) ** 2
    if num_pixels > MOST_PIXELS:
        raise ValueError(
            f"Pictures of {len(frames)} frames would have {num_pixels:.1e} pixels; at most {MOST_PIXELS:.1e} are "
            "drawn. Show fewer frames (`--num-frames`)."
        )
    return frames.repeat(factor, axis=1).repeat(factor, axis=2)


def overlay(frames: np.ndarray, maps: torch.Tensor) -> np.ndarray:
    """Frames (T, S, S, 3) with maps (T, h, w) in color over them, as uint8.

    One scale for the whole clip, so that a frame that is looked at little stays pale.
    """
    heat = F.interpolate(maps[None].float(), size=frames.shape[1:3], mode="bilinear", align_corners=False)[0]
    # The largest value is often a single patch: the 99th percentile keeps the rest visible. A map that is nearly even
    # everywhere says little, so its small differences are not stretched over the whole scale.
    low, high = torch.quantile(heat, torch.tensor([0.01, 0.99]))
    shown = ((heat - low) / torch.maximum(high - low, 0.5 * high).clamp(min=1e-12)).clamp(0, 1).numpy()
    overlaid = np.empty_like(frames)
    # One by one: each takes many times its pixels.
    for frame, attended, result in zip(frames, shown, overlaid):
        share = MOST_COLOR * attended[..., None]
        result[:] = ((1 - share) * frame * 0.8 + share * 255 * _inferno(attended)).round()
    return overlaid


def _inferno(shares: np.ndarray) -> np.ndarray:
    """Colors (..., 3) in [0, 1] for shares in [0, 1].

    Raises:
        ImportError: matplotlib is not installed.
    """
    return np.asarray(import_extra("plots").colormaps["inferno"](shares))[..., :3]


def _save_strip(frames: np.ndarray, overlaid: np.ndarray, path: Path, overwrite: bool) -> Path:
    """Frames above, the same with their maps below."""
    num_frames, height, width, _ = frames.shape
    strip = np.full((2 * height + STRIP_GAP, num_frames * (width + STRIP_GAP) - STRIP_GAP, 3), 255, dtype=np.uint8)
    for row, pictures in enumerate((frames, overlaid)):
        for column, picture in enumerate(pictures):
            top, left = row * (height + STRIP_GAP), column * (width + STRIP_GAP)
            strip[top : top + height, left : left + width] = picture
    with written_whole(path, overwrite=overwrite) as part:
        Image.fromarray(strip).save(part)
    return path


def _save_animation(overlaid: np.ndarray, path: Path, frame_milliseconds: int, overwrite: bool) -> Path:
    first, *others = [Image.fromarray(picture) for picture in overlaid]
    with written_whole(path, overwrite=overwrite) as part:
        first.save(part, save_all=True, append_images=others, duration=frame_milliseconds, loop=0)
    return path


@torch.no_grad()
def attention_rollout(model: nn.Module, pixel_values_videos: torch.Tensor) -> torch.Tensor:
    """Rollout from the frames' class tokens to all patches of a clip, mean over the frames.

    Where the backbone has no class token (SigLIP), it starts from all tokens of a frame alike: the pooling head, which
    weighs them, is not followed. Only what is asked for is computed: the row of the product that belongs to these
    tokens, from the last layer to the first, which is never a matrix over all tokens of the clip.

    What a temporal module carries between frames past the recorded attention (`recorded` in `TEMPORAL_MODULES` is
    false for messages, adapters' convolutions, shifts, differences, context tokens) is not followed.

    Args:
        model: `FrosterForVideoClassification`.
        pixel_values_videos: (1, T, 3, S, S).

    Returns:
        (T, h, w), not negative, of sum 1.

    Raises:
        ValueError: more than one clip, more weights of attention than a model of its size has, or attention of a
            layout of which nothing is known.
    """
    num_frames, side, prefix = _clip_shape(model, pixel_values_videos)
    config: Any = model.config
    vision, costs = config.vision_config, config.costs(num_frames)
    # Of every layer the mean over its heads; of one at a time all heads, and its keys and values.
    held = costs.attention_scores * (1 / vision.num_attention_heads + EAGER_TENSORS / vision.num_hidden_layers)
    _refuse_many_numbers(held + costs.window_numbers, costs.most_mapped, "rollout", other="gradient")
    # Where space and time are one sequence, the clip is a single frame of many patches.
    num_rows = 1 if config.temporal_entries[0].place == "embeddings" else num_frames
    num_tokens = prefix + num_frames * side**2 // num_rows
    shares = pixel_values_videos.new_zeros(num_rows, num_tokens, dtype=torch.float32)
    shares[:, : prefix or num_tokens] = 1
    for weights in reversed(_attentions(model, pixel_values_videos)):
        # Behind the frame's own tokens may stand those that sum up its clip, which belong to no patch.
        weights = weights[..., :num_tokens] if config.temporal_entries[0].hands_on else weights
        shares = 0.5 * shares + 0.5 * _attended(shares, weights.to(shares.device))
    patches = shares[:, prefix:].reshape(num_frames, side, side)
    return patches / patches.sum()


def gradient_map(
    model: nn.Module, pixel_values_videos: torch.Tensor, *, text_embeds: torch.Tensor, label_index: int
) -> torch.Tensor:
    """Gradient times activation of the patches that the last block attends to, for one label's logit.

    Args:
        model: `FrosterForVideoClassification`.
        pixel_values_videos: (1, T, 3, S, S).
        text_embeds: (K, D), of the candidate labels.
        label_index: whose logit.

    Returns:
        (T, h, w), not negative; of sum 1 unless nothing speaks for the label, then zero.

    Raises:
        ValueError: more than one clip, or a label index out of range.
    """
    relevance = patch_relevance(model, pixel_values_videos, text_embeds=text_embeds, label_index=label_index)
    relevance = relevance.clamp(min=0)
    return relevance / relevance.sum().clamp(min=torch.finfo(relevance.dtype).tiny)


def patch_relevance(
    model: nn.Module, pixel_values_videos: torch.Tensor, *, text_embeds: torch.Tensor, label_index: int
) -> torch.Tensor:
    """`gradient_map` with its signs, (T, h, w): what the logit gains for a unit of relative growth of a patch."""
    num_frames, side, prefix = _clip_shape(model, pixel_values_videos)
    if not 0 <= label_index < len(text_embeds):
        raise ValueError(f"label_index={label_index} is out of range: there are {len(text_embeds)} labels.")
    config: Any = model.config
    costs = config.costs(num_frames)
    _refuse_many_numbers(costs.kept_numbers(1), costs.most_mapped, "gradient map", other="rollout")
    normed: list[torch.Tensor] = []
    froster: Any = model.froster
    last_norm = froster.vision_model.encoder.layers[-1].layer_norm1

    def begin_graph(output: torch.Tensor) -> torch.Tensor:
        torch.set_grad_enabled(True)
        normed.append(output.detach().requires_grad_(True))
        return normed[-1]

    # Nothing in front of the norm is differentiated, or kept for it.
    with _SWITCHING, torch.no_grad(), _hooked([last_norm], begin_graph):
        logits = model(pixel_values_videos=pixel_values_videos, text_embeds=text_embeds).logits
        # AIM's blocks use the norm twice, over time and then over space.
        (gradient,) = torch.autograd.grad(logits[0, label_index], normed[-1])
    relevance = (gradient.float() * normed[-1].detach().float()).sum(dim=-1)
    # (T, N), X-CLIP's with a message token at the end; (1, 1 + T*(N-1)) where space and time are one sequence.
    num_patches = num_frames * side * side // len(relevance)
    return relevance[:, prefix : prefix + num_patches].reshape(num_frames, side, side)


def _clip_shape(model: nn.Module, pixels: torch.Tensor) -> tuple[int, int, int]:
    """Number of frames, patches along a side, and tokens before the patches: a class token or none."""
    if pixels.ndim != 5 or pixels.shape[0] != 1:
        raise ValueError(f"One clip (1, T, 3, S, S) is mapped at a time, got shape {tuple(pixels.shape)}.")
    config: Any = model.config
    side = pixels.shape[-1] // config.vision_config.patch_size
    return pixels.shape[1], side, int(config.backbone_entry.has_class_token)


def _refuse_many_numbers(held: float, allowed: int, what: str, *, other: str) -> None:
    """Raise where a small file describes a model of which a map takes gigabytes."""
    if held > allowed:
        raise ValueError(
            f"The {what} of these frames would hold {held:.1e} numbers at once; of a model of this size, it holds at "
            f"most {allowed:.1e}. Show fewer frames (`--num-frames`), or the other map alone (`--method {other}`)."
        )


@contextlib.contextmanager
def _hooked(modules: Iterable[nn.Module], read: Callable[[Any], Any]) -> Iterator[None]:
    """Read what modules give to this thread, others may use them meanwhile, and replace it where `read` returns it.

    Compiled graphs, which call no hooks that came after them, are passed by.
    """
    own_thread = threading.get_ident()

    def hook(module: nn.Module, inputs: Any, output: Any) -> Any:
        return read(output) if threading.get_ident() == own_thread else None

    hooks = [module.register_forward_hook(hook) for module in modules]
    try:
        with torch.compiler.set_stance("force_eager"):
            yield
    finally:
        for handle in hooks:
            handle.remove()


def _attentions(model: nn.Module, pixel_values_videos: torch.Tensor) -> list[torch.Tensor]:
    """Of every layer, the mean over the heads, (rows, queries, keys), float32: a layer's heads are not kept."""
    configured: Any = model
    attentions: list[torch.Tensor] = []

    def note(output: tuple[torch.Tensor, torch.Tensor]) -> None:
        attentions.append(output[1].mean(dim=1, dtype=torch.float32))

    layers = configured.froster.vision_model.encoder.layers
    with _SWITCHING, _hooked([layer.self_attn for layer in layers], note):
        implementation = configured.config._attn_implementation
        # Only eager attention writes its weights down.
        configured.set_attn_implementation("eager")
        try:
            configured.froster.get_video_features(pixel_values_videos)
        finally:
            configured.set_attn_implementation(implementation)
    return attentions


def _attended(shares: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """What the tokens attend to that have these shares: the product with one layer's attention, its rows of sum 1.

    Three layouts come in, told apart by their shape:

        (T, N, N) or (T, N+1, N+1)     every frame by itself (and a message token, which is left out)
        (T, N, (2r+1)*N)               frame t to frames t-r .. t+r; those beyond the ends are zeros, left out

    Args:
        shares: (T, N).
        weights: mean over the heads.

    Raises:
        ValueError: another layout, of which nothing is known.
    """
    num_frames, num_tokens = shares.shape
    rows, num_queries, num_keys = weights.shape
    windowed = num_keys % num_tokens == 0
    width = num_keys // num_tokens if windowed else 1
    if rows != num_frames or not (num_queries >= num_tokens and (num_keys == num_queries or (windowed and width % 2))):
        raise ValueError(
            f"The attention of shape {tuple(weights.shape)} (frames, queries, keys) is of no layout that the rollout "
            f"knows, for {num_frames} frames of {num_tokens} tokens. Use the gradient map."
        )
    weights = weights[:, :num_tokens, : width * num_tokens].unflatten(2, (width, num_tokens))
    # Frames before the first and behind the last, so that all have as many on either side.
    padded = F.pad(weights.new_ones(num_frames), (width // 2, width // 2)).unfold(0, width, 1)
    weights = weights * padded[:, None, :, None]
    weights = weights / weights.sum(dim=(2, 3), keepdim=True)
    given = torch.einsum("tq,tqpk->tpk", shares, weights)
    attended = shares.new_zeros(num_frames + width - 1, num_tokens)
    for place in range(width):
        attended[place : place + num_frames] += given[:, place]
    return attended[width // 2 :][:num_frames]
