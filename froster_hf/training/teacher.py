"""The teacher: CLIP, frozen, on the same frames and the same prompts as the student (FROSTER, section 3.2).

It lives outside the student, so that no state dict, optimizer or distributed wrapper ever sees it. A teacher whose
weights are the student's own frozen ones is not a second copy: its modules hold the very same parameters, without the
temporal module between them.

Letters: B clips, T frames, D the teacher's embedding width.
"""

import contextlib
import copy
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..checkpoint_files import check_headers
from ..checkpoint_loading import checked_config, refuse_other_scale
from ..modeling.modeling_froster import FrosterForVideoClassification, FrosterModel
from ..printing import get_logger
from ..processing.processing_froster import FrosterProcessor
from .checkpointing import CheckpointedCallback, ResumeError
from .stored_states import check_form

logger = get_logger(__name__)

TeacherDtype = Literal["float32", "bfloat16", "float16"]
# An averaged teacher, in a checkpoint.
STATE_NAME = "averaged_teacher.safetensors"


class FrozenTeacher:
    """A CLIP that embeds frames and texts without gradients.

    Args:
        model: without a temporal module.
        dtype: precision of its weights and passes. The results are in single precision.
        frames_dtype: precision of the passes over frames, by autocast; by default that of the weights. Frames are new
            at every step, texts are encoded once.
        shared: the parameters are another model's too, so they are not cast; lower precision is by autocast.
    """

    # Whether its weights are others after a step.
    changes = False
    # That of its checkpoint; a teacher that was the student takes the student's.
    processor: FrosterProcessor | None = None

    def __init__(
        self,
        model: FrosterModel,
        *,
        dtype: TeacherDtype = "float32",
        frames_dtype: TeacherDtype | None = None,
        shared: bool = False,
    ):
        self.dtype, self.frames_dtype = getattr(torch, dtype), getattr(torch, frames_dtype or dtype)
        self.shared = shared
        self.model = model.eval().requires_grad_(False)
        if not shared:
            self.model.to(self.dtype)

    @classmethod
    def from_student(
        cls, student: FrosterForVideoClassification, *, shared: bool = False, **kwargs: Any
    ) -> "FrozenTeacher":
        """The student's CLIP as it is now, without its temporal module and pooling, and without low-rank updates.

        Args:
            student: whose weights are taken.
            shared: take the student's parameters themselves rather than copies; they have to stay frozen.
            kwargs: further arguments of the class.

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
        return cls(model, shared=shared, **kwargs)

    @classmethod
    def from_dual_encoder(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs: Any) -> "FrozenTeacher":
        """The checkpoint of CLIP, or of another backbone of transformers.

        Args:
            pretrained_model_name_or_path: a folder, or a name on the Hub.
            kwargs: further arguments of the class.

        Raises:
            ValueError: the checkpoint is not that of a backbone, is refused by [`checked_config`], or has a scale of
                the logits that is not a number above 0.
        """
        checked_config(pretrained_model_name_or_path)
        model = FrosterModel.from_dual_encoder(pretrained_model_name_or_path, temporal_module="none")
        refuse_other_scale(model)
        teacher = cls(model, **kwargs)
        try:
            teacher.processor = FrosterProcessor.from_dual_encoder(pretrained_model_name_or_path)
        except (OSError, ValueError) as error:
            # Weights alone, for which transformers knows a class of processors, or none.
            if isinstance(error, ValueError) and not str(error).startswith("Unrecognized processing class"):
                raise
            logger.warning(
                "%s has no processor: whether it takes the student's pixels and tokens cannot be checked.",
                pretrained_model_name_or_path,
            )
        return teacher

    @property
    def embed_width(self) -> int:
        """D."""
        return self.model.config.projection_dim

    @property
    def logit_scale(self) -> Tensor:
        """exp of the logit scale, a scalar in single precision."""
        return self.model.logit_scale.detach().float().exp()

    def to(self, device: torch.device) -> "FrozenTeacher":
        """Move to a device; a teacher of shared parameters is where the student is."""
        if not self.shared:
            self.model.to(device)
        return self

    @torch.no_grad()
    def embed_frames(self, pixel_values_videos: Tensor) -> Tensor:
        """(B, T, 3, S, S) to (B, T, D), L2-normalized."""
        with self._precision(pixel_values_videos, self.frames_dtype):
            features = self.model.get_video_features(pixel_values_videos.to(self.model.logit_scale), only_embeds=True)
        return features.frame_embeds.float()

    @torch.no_grad()
    def embed_texts(self, input_ids: Tensor, *, chunk_size: int | None = None) -> Tensor:
        """(n, L) to (n, D), L2-normalized."""
        with self._precision(input_ids, self.dtype):
            return self.model.get_label_embeds(input_ids.to(self.model.device), chunk_size=chunk_size).float()

    def fingerprint(self) -> str:
        """A hash of its weights, as they were when a training began."""
        if self.shared:  # its weights are the student's frozen ones, which the checkpoint holds
            return "the student"
        digest = hashlib.sha256()
        for name, tensor in self.model.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def _precision(self, inputs: Tensor, dtype: torch.dtype) -> contextlib.AbstractContextManager:
        if dtype in (torch.float32, self.model.dtype):
            return contextlib.nullcontext()
        return torch.autocast(inputs.device.type, dtype=dtype)


class AveragedTeacher(FrozenTeacher):
    """A teacher that follows its student: the exponential moving average of the student's CLIP (TACO; Mean Teacher).

    After every step, w <- momentum * w + (1 - momentum) * w_student, for both towers and the projections. It starts as
    the student does. What the student adds to CLIP has no part in it.

    Args:
        model: without a temporal module, in single precision: in half precision most steps would round to nothing.
        momentum: from 0 to below 1; TACO's is 0.9998.
        kwargs: see [`FrozenTeacher`].
    """

    changes = True

    def __init__(self, model: FrosterModel, *, momentum: float, **kwargs: Any):
        super().__init__(model, **kwargs)
        self.momentum = momentum
        self._fingerprint = super().fingerprint()

    def fingerprint(self) -> str:
        """See [`FrozenTeacher.fingerprint`]."""
        return self._fingerprint

    @torch.no_grad()
    def follow(self, student: FrosterForVideoClassification) -> None:
        """Take one step towards the student's weights as they are now."""
        weights = dict(student.froster.named_parameters())
        for name, own in self.model.named_parameters():
            own.lerp_(weights[name].detach().to(own), 1 - self.momentum)


class TeacherAveraging(CheckpointedCallback):
    """Lets an [`AveragedTeacher`] follow the student after every optimizer step, and keeps it in the checkpoints.

    Args:
        teacher: gives the teacher of the training as it is now.
    """

    def __init__(self, teacher: Callable[[], AveragedTeacher]):
        self.teacher = teacher

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Follow."""
        self.teacher().follow(kwargs["model"])

    def save_state(self, checkpoint: Path) -> None:
        """Its weights, so that they are restored exactly."""
        save_file(self.teacher().model.state_dict(), checkpoint / STATE_NAME)

    def load_state(self, checkpoint: Path, model: nn.Module) -> None:
        """Go on with the teacher of a checkpoint."""
        path = checkpoint / STATE_NAME
        if not path.is_file():
            raise ResumeError(
                f"{checkpoint} was written without an averaged teacher (`teacher_momentum`). Resume with the arguments"
                " that wrote it, or begin a new run from its weights with `from_pretrained`."
            )
        check_headers([path])
        weights, teacher = load_file(path), self.teacher().model
        check_form(weights, teacher.state_dict(), where=STATE_NAME)
        teacher.load_state_dict(weights)
