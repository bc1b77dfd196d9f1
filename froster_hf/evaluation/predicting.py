"""A model over a table: every clip's view logits, resumable and on any number of processes.

    EvaluationClips (DataLoader workers) -> pixel_values_videos (B*V*C, T, 3, S, S) -> model -> logits ->
    PredictionStore

The table is cut into fixed batches, [0, B), [B, 2B), ...; a batch is the unit of work, of resuming and of sharing
among processes. Every clip is therefore computed in the same company whatever the number of processes and kills, and
its logits are the same to the last bit on the same hardware.
"""

import logging
import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from datasets import Dataset
from torch import nn
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from ..data.clips import EvaluationClips, collate_clips
from ..data.fingerprints import pixel_options, table_fingerprint
from ..data.video_table import label_names
from ..processing.processing_froster import FrosterProcessor
from .fingerprints import model_fingerprint, prompts_fingerprint
from .leak_check import warn_of_leaks
from .predictions import ClipPrediction, PredictionStore, stack_view_logits

logger = logging.getLogger(__name__)

Precision = Literal["float32", "bfloat16", "float16"]


def predict(
    model: nn.Module,
    table: Dataset,
    *,
    processor: FrosterProcessor,
    output_dir: str | os.PathLike,
    descriptions: Mapping[str, str] | None = None,
    num_views: int = 3,
    num_crops: int = 1,
    video_options: Mapping[str, Any] | None = None,
    batch_size: int = 8,
    num_workers: int = 0,
    precision: Precision = "float32",
    accelerator: Accelerator | None = None,
) -> tuple[np.ndarray, dict[str, Any]]:
    """Scores every clip of a table against the table's own labels.

    Clips that `output_dir` already has are not computed again.

    Args:
        model: `FrosterForVideoClassification`, or another with its call and a `FrosterModel` as `froster`.
        table: {video, label}; its label texts are the K labels.
        processor: pixels and prompts.
        output_dir: folder of the predictions, shared by all processes.
        descriptions: sentences by label; None takes the processor's.
        num_views: V windows spread over the video.
        num_crops: C crops a frame.
        video_options: further options of the video processor.
        batch_size: clips computed together (V * C forward passes' worth each).
        num_workers: decoding workers.
        precision: of the vision tower's computation (autocast); the logits are stored in float32.
        accelerator: None makes one, which takes the GPU or the processes that `accelerate launch` gives.

    Returns:
        View logits (n, V*C, K), NaN where a video could not be decoded, and the header of the predictions.

    Raises:
        ValueError: `batch_size` is less than 1.
        PredictionMismatchError: `output_dir` holds predictions of other weights, data, prompts or settings.
    """
    if batch_size < 1:
        raise ValueError(f"`batch_size` is {batch_size}; it must be at least 1.")
    accelerator = accelerator or Accelerator()
    texts = label_names(table)
    encoded = processor.encode_labels(texts, descriptions)
    warn_of_leaks(processor.write_prompts(texts, descriptions), table)
    clips = EvaluationClips(
        table,
        video_processor=processor.video_processor,
        num_views=num_views,
        num_crops=num_crops,
        video_options=video_options,
    )
    header = {
        "model": model_fingerprint(model),
        "data": table_fingerprint(table),
        "prompts": prompts_fingerprint(texts, encoded),
        "video_options": pixel_options({**processor.video_processor.to_dict(), **clips.options}),
        "batch_size": batch_size,
        "precision": precision,
        "num_clips": len(table),
    }
    store = PredictionStore(output_dir, header=header, label_texts=texts, process_index=accelerator.process_index)
    # One process looks at what is there and tells the others: another may have begun to write while one still reads.
    remaining: list[Any] = [None]
    if accelerator.is_main_process:
        remaining = [_remaining_batches(len(table), batch_size, done=set(store.read()))]
    (batches,) = broadcast_object_list(remaining)
    mine = batches[accelerator.process_index :: accelerator.num_processes]
    if mine:
        # Ours and not `accelerator.prepare`d: that would deal the batches out once more, and pad them with
        # repetitions.
        loader = DataLoader(clips, batch_sampler=mine, collate_fn=collate_clips, num_workers=num_workers)
        embed_labels = partial(processor.embed_labels, texts, descriptions)
        _predict_batches(model, loader, mine, embed_labels, store, precision, accelerator)
    accelerator.wait_for_everyone()
    return stack_view_logits(store.read(), num_rows=len(table)), store.header


def _remaining_batches(num_clips: int, batch_size: int, *, done: set[int]) -> list[list[int]]:
    batches = [list(range(start, min(start + batch_size, num_clips))) for start in range(0, num_clips, batch_size)]
    return [batch for batch in batches if not done.issuperset(batch)]


@torch.inference_mode()
def _predict_batches(
    model: nn.Module,
    loader: DataLoader,
    batches: list[list[int]],
    embed_labels: Callable[..., torch.Tensor],
    store: PredictionStore,
    precision: Precision,
    accelerator: Accelerator,
) -> None:
    device = accelerator.device
    was_training = model.training
    model = model.to(device).eval()
    text_embeds = embed_labels(model=model)
    progress = tqdm(total=sum(map(len, batches)), unit="clip", disable=not accelerator.is_local_main_process)
    with store, progress:
        for rows, batch in zip(batches, loader):
            pixels = batch["pixel_values_videos"].to(device, non_blocking=True)
            with torch.autocast(device.type, dtype=getattr(torch, precision), enabled=precision != "float32"):
                logits = model(pixel_values_videos=pixels, text_embeds=text_embeds).logits
            view_logits = logits.float().unflatten(0, (len(rows), -1)).cpu().numpy()
            failures = {failure.row: failure.reason for failure in batch["decode_failures"]}
            for row, reason in failures.items():
                logger.warning("Clip %d cannot be decoded and counts as wrong: %s", row, reason)
            store.append(
                [
                    ClipPrediction(row, name, None if row in failures else own_logits, failures.get(row))
                    for row, name, own_logits in zip(rows, batch["video_names"], view_logits)
                ]
            )
            progress.update(len(rows))
    model.train(was_training)
