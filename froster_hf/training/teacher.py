"""The teacher: CLIP, frozen, on the same frames and the same prompts as the student (FROSTER, section 3.2).

It lives outside the student, so that no state dict, optimizer or distributed wrapper ever sees it. A teacher whose
weights are the student's own frozen ones is no second copy: its modules hold the very same parameters, without the
temporal module between them.

Letters: B clips, T frames, D the teacher's embedding width.
"""

import contextlib
import copy
import os
from typing import Literal

import torch
from torch import Tensor, nn

from ..modeling.modeling_froster import FrosterForVideoClassification, FrosterModel

TeacherDtype = Literal["float32", "bfloat16", "float16"]


class FrozenTeacher:
    """A CLIP that embeds frames and texts without gradients.

    Args:
        model: without a temporal module.
        dtype: precision of its passes. The results are in single precision.
        shared: the parameters are another model's too, so they are not cast; lower precision is by autocast.
    """

    def __init__(self, model: FrosterModel, *, dtype: TeacherDtype = "float32", shared: bool = False):
        self.dtype = getattr(torch, dtype)
        self.shared = shared
        self.model = model.eval().requires_grad_(False)
        if not shared:
            self.model.to(self.dtype)

    @classmethod
    def from_student(
        cls, student: FrosterForVideoClassification, *, dtype: TeacherDtype = "float32", shared: bool = False
    ) -> "FrozenTeacher":
        """The student's CLIP as it is now, without its temporal module and pooling, and without low-rank updates.

        Args:
            student: whose weights are taken.
            dtype: see the class.
            shared: take the student's parameters themselves rather than copies; they have to stay frozen.

        Raises:
            ValueError: `shared`, and a parameter of CLIP is trained.
        """
        source = student.froster
        # Without the name of the layers that PEFT wraps.
        tensors = {
            name.replace(".base_layer.", "."): tensor
            for name, tensor in (*source.named_parameters(), *source.named_buffers())
        }
        config = copy.deepcopy(source.config)
        config.temporal_module, config.temporal_pooling = "none", "mean"
        with torch.device("meta"):
            model = FrosterModel(config)
        for owner_name, owner in model.named_modules():
            for attribute, placeholder in (*owner._parameters.items(), *owner._buffers.items()):
                if placeholder is None:
                    continue
                name = f"{owner_name}.{attribute}".lstrip(".")
                tensor = tensors[name]
                if shared and tensor.requires_grad:
                    raise ValueError(f"The teacher cannot share the parameter {name!r}: the student trains it.")
                if not shared:
                    copied = tensor.detach().clone()
                    tensor = nn.Parameter(copied, requires_grad=False) if attribute in owner._parameters else copied
                setattr(owner, attribute, tensor)
        return cls(model, dtype=dtype, shared=shared)

    @classmethod
    def from_dual_encoder(
        cls, pretrained_model_name_or_path: str | os.PathLike, *, dtype: TeacherDtype = "float32", **kwargs
    ) -> "FrozenTeacher":
        """The checkpoint of CLIP, or of another backbone of transformers.

        Raises:
            ValueError: the checkpoint is not that of a backbone.
        """
        model = FrosterModel.from_dual_encoder(pretrained_model_name_or_path, temporal_module="none", **kwargs)
        return cls(model, dtype=dtype)

    @property
    def embed_width(self) -> int:
        """D."""
        return self.model.config.projection_dim

    def to(self, device: torch.device) -> "FrozenTeacher":
        """Move to a device; a teacher of shared parameters is where the student is."""
        if not self.shared:
            self.model.to(device)
        return self

    @torch.no_grad()
    def embed_frames(self, pixel_values_videos: Tensor) -> Tensor:
        """(B, T, 3, S, S) to (B, T, D), L2-normalised."""
        with self._precision(pixel_values_videos):
            features = self.model.get_video_features(pixel_values_videos.to(self.model.logit_scale))
        return features.frame_embeds.float()

    @torch.no_grad()
    def embed_texts(self, input_ids: Tensor, *, chunk_size: int | None = None) -> Tensor:
        """(n, L) to (n, D), L2-normalised."""
        with self._precision(input_ids):
            return self.model.get_label_embeds(input_ids.to(self.model.device), chunk_size=chunk_size).float()

    def _precision(self, inputs: Tensor) -> contextlib.AbstractContextManager:
        if self.shared and self.dtype != torch.float32:
            return torch.autocast(inputs.device.type, dtype=self.dtype)
        return contextlib.nullcontext()
