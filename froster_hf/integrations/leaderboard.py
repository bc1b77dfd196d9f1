"""A checkpoint as a model of MTEB, whose video benchmark (MVEB) has zero-shot action recognition. Imports `mteb`.

MTEB writes one text per label ("a video of ..."), so its figures are for that prompt and not for the checkpoint's own
prompts, which `froster evaluate` measures.
"""

import os
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from mteb.models import ModelMeta
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_meta import ScoringFunction

from ..checkpoint_loading import checkpoint_path, current_commit
from ..video.columns import without_video_decoding
from .batches import EmbedVideos

# MTEB's names of the tasks whose data is Kinetics-400, on which FROSTER and Open-VCLIP were trained.
KINETICS_400_TASKS = frozenset({"Kinetics400V", "Kinetics400VA", "Kinetics400ZeroShot", "Kinetics400VAZeroShot"})
TEXTS_PER_BATCH = 256


class FrosterEncoder(AbsEncoder):
    """What `mteb.evaluate` takes: embeds texts, and videos by frames spread over the whole clip.

    The frames are read by this package's processor, exactly and without torchcodec.

    Args:
        checkpoint: a FROSTER or CLIP checkpoint, a folder or a name on the Hub.
        training_datasets: MTEB's names of the tasks whose data the checkpoint was trained on, for FROSTER's and
            Open-VCLIP's release [`KINETICS_400_TASKS`]; an empty list for none, `None` for "not known". They mark
            results that are not zero-shot.
        name: `organization/name` for the results; the checkpoint's own where it is a name on the Hub.
        revision: revision of the checkpoint; part of the results' folder. Of a name on the Hub, its main one.
        license: license of the weights, such as `cc-by-nc-sa-4.0`.
        device: such as `cuda:0`; by default the first accelerator.
        batch_size: videos that go through the model together.

    Raises:
        ValueError: the checkpoint is a folder and has no `name` of the form that MTEB takes; or it is a name on the
            Hub, and its main revision, which is measured, is not `revision`.
    """

    def __init__(
        self,
        checkpoint: str | os.PathLike[str],
        *,
        training_datasets: Iterable[str] | None,
        name: str | None = None,
        revision: str | None = None,
        license: str | None = None,
        device: str | None = None,
        batch_size: int = 8,
    ):
        if name is None and not os.path.isdir(checkpoint):
            name = os.fspath(checkpoint)
        if name is None or name.count("/") != 1:
            raise ValueError(
                f"`name` is {name!r}; MTEB takes 'organization/name'. Give it for a checkpoint in a folder."
            )
        path = checkpoint_path(checkpoint)
        is_named = revision is not None and not os.path.exists(path)
        if is_named and current_commit(path, revision) != current_commit(path, None):
            raise ValueError(
                f"`revision` is {revision!r}, but the main revision of {path!r} would be measured. Fetch the one "
                f"that is named (`huggingface_hub.snapshot_download`), and give its folder with `name={name!r}`."
            )
        # Known before a model is loaded, so that a long run does not end with a wrong option.
        trained_on = None if training_datasets is None else set(training_datasets)
        self.embed = EmbedVideos(checkpoint, device=device, batch_size=batch_size, sampling="uniform", num_views=1)
        model = self.embed.pipeline.model
        self.model = getattr(model, "froster", model).eval()
        self.processor = self.embed.pipeline.processor
        num_parameters = sum(parameter.numel() for parameter in self.model.parameters())
        config = self.model.config
        self.mteb_model_meta = ModelMeta(
            loader=None,
            name=name,
            revision=revision,
            release_date=None,
            languages=["eng-Latn"],
            n_parameters=num_parameters,
            memory_usage_mb=round(num_parameters * 4 / 2**20),
            max_tokens=config.text_config.max_position_embeddings,
            embed_dim=config.projection_dim,
            license=license,
            open_weights=True,
            public_training_code=None,
            public_training_data=None,
            framework=["PyTorch", "Transformers"],
            similarity_fn_name=ScoringFunction.COSINE,
            use_instructions=False,
            training_datasets=trained_on,
            modalities=["video", "text"],
            model_type=["dense"],
            experiment_kwargs={"num_frames": self.processor.video_processor.num_frames, "sampling": "uniform"},
        )

    def encode(self, inputs: Any, *, task_metadata: Any, **kwargs: Any) -> np.ndarray:
        """Embeddings (n, D) of what a task's loader holds: a column of texts, or one of videos.

        Raises:
            ValueError: the rows hold both or neither, or a video that cannot be read.
        """
        rows = inputs.dataset
        columns = [column for column in ("text", "video") if column in rows.column_names]
        if len(columns) != 1:
            raise ValueError(
                f"The task {task_metadata.name} has rows of {', '.join(rows.column_names)}; this model embeds a text "
                "or a video, not both as one."
            )
        return self._encode_texts(list(rows["text"])) if columns == ["text"] else self._encode_videos(rows)

    @torch.no_grad()
    def _encode_texts(self, texts: list[str]) -> np.ndarray:
        embeds = []
        for start in range(0, len(texts), TEXTS_PER_BATCH):
            batch = texts[start : start + TEXTS_PER_BATCH]
            # MTEB cuts what a model cannot read, for every model alike.
            tokens = self.processor(text=batch, truncation=True, return_tensors="pt")["input_ids"]
            embeds.append(self.model.get_text_features(tokens.to(self.model.device), return_dict=True).pooler_output)
        return torch.cat(embeds).float().cpu().numpy()

    def _encode_videos(self, rows: Any) -> np.ndarray:
        embeds: list[list[float]] = []
        for batch in without_video_decoding(rows.select_columns("video")).iter(self.embed.batch_size):
            found = self.embed(batch)
            for number, error in enumerate(found["error"], start=len(embeds)):
                if error:
                    raise ValueError(f"Video {number} of the task: {error}")
            embeds += found["embedding"]
        return np.array(embeds, dtype=np.float32)
