"""`explain_video`: which regions of a video a prediction looks at, as a picture strip and an animated GIF."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib import colormaps
from PIL import Image
from torch import nn

from ..processing.processing_froster import FrosterProcessor
from ..whole_files import make_folder, written_whole
from .attention_maps import attention_rollout, gradient_map

MapMethod = Literal["rollout", "gradient"]


@dataclass(frozen=True)
class Explanation:
    """What `explain_video` found and wrote.

    Args:
        label: that was explained.
        probability: of the label among the candidates.
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
) -> Explanation:
    """Draws the attention rollout and the gradient map of a label over the frames of a video.

    Args:
        model: `FrosterForVideoClassification`.
        processor: pixels and prompts.
        video: whatever the video processor takes.
        label: whose score is explained.
        output_dir: of the pictures `rollout.png`, `rollout.gif`, `gradient.png`, `gradient.gif`.
        candidate_labels: labels to tell it from; they set the reported probability only.
        methods: which maps.
        frame_milliseconds: how long the animation shows a frame.

    Raises:
        ValueError: an unknown method, or a link in the place of `output_dir`.
        VideoDecodeError: the video cannot be decoded.
    """
    if unknown := sorted(set(methods) - {"rollout", "gradient"}):
        raise ValueError(f"Unknown methods {unknown}; choose among 'rollout' and 'gradient'.")
    labels = list(dict.fromkeys([label, *candidate_labels]))
    # Made before the work, which would be lost where it cannot be.
    folder = make_folder(output_dir)
    pixels = processor.video_processor(video, num_views=1, num_crops=1, return_tensors="pt")["pixel_values_videos"]
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
    frames = enlarged(shown_frames(pixels[0], processor))
    strips, animations = {}, {}
    for method, values in maps.items():
        overlaid = overlay(frames, values)
        strips[method] = _save_strip(frames, overlaid, folder / f"{method}.png")
        animations[method] = _save_animation(overlaid, folder / f"{method}.gif", frame_milliseconds)
    return Explanation(label, float(logits.softmax(-1)[0]), maps, strips, animations)


def shown_frames(pixels: torch.Tensor, processor: FrosterProcessor) -> np.ndarray:
    """The frames as the model sees them, cropped, back to uint8: (T, 3, S, S) to (T, S, S, 3)."""
    options: Any = processor.video_processor
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (options.image_mean, options.image_std))
    frames = (pixels.float().cpu() * std + mean).clamp(0, 1) * 255
    return frames.round().byte().permute(0, 2, 3, 1).numpy()


def enlarged(frames: np.ndarray, *, smallest_side: int = 192) -> np.ndarray:
    """Small frames (T, S, S, 3) by a whole factor, so that people can see what the model saw."""
    factor = -(-smallest_side // frames.shape[1])
    return frames.repeat(factor, axis=1).repeat(factor, axis=2)


def overlay(frames: np.ndarray, maps: torch.Tensor, *, strength: float = 0.6) -> np.ndarray:
    """Frames (T, S, S, 3) with maps (T, h, w) in colour over them, as uint8.

    One scale for the whole clip, so that a frame that is looked at little stays pale.
    """
    heat = F.interpolate(maps[None].float(), size=frames.shape[1:3], mode="bilinear", align_corners=False)[0]
    # The largest value is often a single patch: the 99th percentile keeps the rest visible. A map that is nearly even
    # everywhere says little, so its small differences are not stretched over the whole scale.
    low, high = torch.quantile(heat, torch.tensor([0.01, 0.99]))
    shown = ((heat - low) / torch.maximum(high - low, 0.5 * high).clamp(min=1e-12)).clamp(0, 1).numpy()
    colours = 255 * np.asarray(colormaps["inferno"](shown))[..., :3]
    share = strength * shown[..., None]
    return ((1 - share) * frames * 0.8 + share * colours).round().astype(np.uint8)


def _save_strip(frames: np.ndarray, overlaid: np.ndarray, path: Path, *, gap: int = 4) -> Path:
    num_frames, height, width, _ = frames.shape
    strip = np.full((2 * height + gap, num_frames * (width + gap) - gap, 3), 255, dtype=np.uint8)
    for row, pictures in enumerate((frames, overlaid)):
        for column, picture in enumerate(pictures):
            top, left = row * (height + gap), column * (width + gap)
            strip[top : top + height, left : left + width] = picture
    with written_whole(path) as part:
        Image.fromarray(strip).save(part)
    return path


def _save_animation(overlaid: np.ndarray, path: Path, frame_milliseconds: int) -> Path:
    first, *others = [Image.fromarray(picture) for picture in overlaid]
    with written_whole(path) as part:
        first.save(part, save_all=True, append_images=others, duration=frame_milliseconds, loop=0)
    return path
