"""The main job on a machine that has nothing yet: videos that are rendered here, and a model to put at hand.

Used by `froster demo`.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import CLIPConfig, CLIPModel

from .data.moving_shapes import MovingShape, draw_scenes, render_clips, write_mp4
from .data.moving_shapes_tokenizer import moving_shapes_texts, train_tokenizer
from .modeling.modeling_froster import FrosterForVideoClassification
from .processing.processing_froster import FrosterProcessor
from .processing.video_processing_froster import FrosterVideoProcessor

DEMO_LABELS = ("a red star sliding left", "a blue square spinning", "a green ring growing", "a yellow heart bouncing")
_SIZE, _WIDTH = 32, 64


def render_demo_videos(
    folder: str | Path, labels: Sequence[str] = DEMO_LABELS, *, seed: int = 0, num_frames: int = 24
) -> list[Path]:
    """Render an H.264 mp4 file for each label of the moving-shapes world.

    Args:
        folder: made when it is missing.
        labels: of the form "a COLOR SHAPE MOTION".
        seed: decides size, place and background.
        num_frames: frames a file, at 8 a second.

    Returns:
        The files, named by their labels.

    Raises:
        ValueError: a label is not of this world.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    scenes = draw_scenes(seed, classes=[MovingShape.from_label(label) for label in labels])
    clips = render_clips(scenes, num_frames=num_frames, resolution=192)
    return [write_mp4(clip, folder / f"{label.replace(' ', '_')}.mp4") for clip, label in zip(clips, labels)]


def write_untrained_checkpoint(folder: str | Path, *, seed: int = 0) -> Path:
    """A tiny CLIP with random weights, made a FROSTER model with its processor: it runs as a trained one, and guesses.

    Returns:
        The folder.
    """
    folder = Path(folder)
    tokenizer = train_tokenizer(moving_shapes_texts(seed, num_texts=500), vocab_size=600)
    shared = {
        "hidden_size": _WIDTH,
        "intermediate_size": 4 * _WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    tokens = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    config = CLIPConfig(
        text_config={**shared, **tokens, "vocab_size": len(tokenizer)},
        vision_config={**shared, "image_size": _SIZE, "patch_size": 8},
        projection_dim=_WIDTH,
    )
    torch.manual_seed(seed)
    CLIPModel(config).save_pretrained(folder)
    FrosterForVideoClassification.from_clip(folder).save_pretrained(folder)
    video_processor = FrosterVideoProcessor(
        size={"shortest_edge": _SIZE}, crop_size={"height": _SIZE, "width": _SIZE}, num_frames=8
    )
    FrosterProcessor(video_processor, tokenizer, "none").save_pretrained(folder)
    return folder
