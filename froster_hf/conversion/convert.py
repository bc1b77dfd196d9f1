"""From a checkpoint of another code base to a folder that `from_pretrained` loads.

    file or folder -> read_checkpoint -> convert_state_dict -> infer_config -> empty model, filled strictly -> folder

Weights are never computed with: a half-precision source stays half precision, bit by bit.
"""

import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from torch import Tensor
from transformers import CLIPConfig, CLIPModel, PreTrainedModel

from froster_hf.conversion.architecture import infer_config
from froster_hf.conversion.key_maps import SECTIONS, Layout
from froster_hf.conversion.layouts import listing, recognise_layout
from froster_hf.conversion.reading import RawCheckpoint, read_checkpoint
from froster_hf.conversion.report import ConversionReport
from froster_hf.conversion.state_dicts import ConvertedStateDict, convert_state_dict
from froster_hf.modeling.configuration_froster import FrosterConfig, TemporalModule, TemporalPooling
from froster_hf.modeling.modeling_froster import FrosterForVideoClassification

TOKEN_EMBEDDING = "text_model.embeddings.token_embedding.weight"
REPOSITORY = re.compile(r"[\w.\-]+/[\w.\-]+")
CLIP_FILES = ["config.json", "*.safetensors", "*.safetensors.index.json"]

NOTES: dict[Layout, str] = {
    "froster": "FROSTER's released weights are under CC BY-NC-SA 4.0, and so is what they are converted to.",
}


def convert_checkpoint(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    layout: Layout | None = None,
    temporal_module: TemporalModule | None = None,
    temporal_radius: int | None = None,
    num_frames: int | None = None,
    temporal_pooling: TemporalPooling | None = None,
    token_embedding_from: str | os.PathLike[str] | None = None,
    keep_projectors: bool = False,
    teacher_output: str | os.PathLike[str] | None = None,
    strict: bool = True,
    max_shard_size: int | str = "5GB",
) -> ConversionReport:
    """Convert a checkpoint to a folder with `config.json`, safetensors and the report `conversion.json`.

    Args:
        source: a file of FROSTER, Open-VCLIP, ActionCLIP, ViFi-CLIP or OpenAI's CLIP (pickle, TorchScript archive or
            safetensors), or a CLIP folder or repository of transformers.
        output: the folder to write; must not exist, or be empty.
        layout: whose names the source has; recognised where it is `None`.
        temporal_module: where the weights show none. Default: the source's run configuration, else `local_attention`
            for FROSTER and Open-VCLIP, else `none`.
        temporal_radius: of `local_attention`. Default: the run configuration, else 1.
        num_frames: Default: the run configuration, else 8.
        temporal_pooling: where the weights show none. Default: `mean`, and `mean_unnormalized` for ActionCLIP and
            ViFi-CLIP.
        token_embedding_from: the CLIP that a ViFi-CLIP file was trained from; its own files lack the token embedding.
        keep_projectors: also write FROSTER's distillation projectors, to go on training with them.
        teacher_output: also write the frozen teacher of a FROSTER file to this folder, as a CLIP of transformers.
        strict: refuse tensors that no table knows. If not, they are listed in the report.
        max_shard_size: of one weight file.

    Returns:
        What was read, assumed, left out and written.

    Raises:
        CheckpointError: the source cannot be read, or is not read because it would not be safe.
        ValueError: the source is complete in no known layout, an option contradicts it, or `output` is taken.
    """
    target = _free_folder(output)
    teacher_target = _free_folder(teacher_output) if teacher_output is not None else None
    raw = read_checkpoint(_resolve(source))
    tensors, wrapping, unused = _unwrap(raw)
    if strict and unused:
        raise ValueError(f"{raw.path} has sections of tensors that this package does not know: {listing(unused)}.")
    clip_config = _clip_config(raw)
    converted = convert_state_dict(tensors, layout=layout or _recognise(raw, tensors), strict=strict)
    if converted.layout == "vificlip":
        converted.model[TOKEN_EMBEDDING] = _token_embedding(token_embedding_from, tensors)
    config, settings = infer_config(
        converted,
        temporal_module=temporal_module,
        temporal_radius=temporal_radius,
        num_frames=num_frames,
        temporal_pooling=temporal_pooling,
        texts=raw.texts,
        clip_config=clip_config,
    )
    left_out = dict(converted.dropped)
    state = dict(converted.model)
    if keep_projectors:
        if not converted.projectors:
            raise ValueError(f"keep_projectors=True, but {raw.path} has no distillation projectors.")
        state |= converted.projectors
    elif converted.projectors:
        left_out |= dict.fromkeys(_named(tensors, "projector_"), "projectors, used in training only (keep_projectors)")
    if teacher_target is None:
        left_out |= dict.fromkeys(_named(tensors, "raw_model."), "the frozen teacher (teacher_output)")
    elif not converted.teacher:
        raise ValueError(f"teacher_output is given, but {raw.path} holds no teacher (raw_model.*).")

    report = ConversionReport(
        source=str(source),
        output=str(output),
        format=raw.format,
        layout=converted.layout,
        sha256=raw.sha256,
        wrapping=wrapping,
        num_tensors=len(state),
        num_parameters=sum(tensor.numel() for tensor in state.values()),
        dtypes=dict(Counter(str(tensor.dtype).removeprefix("torch.") for tensor in state.values())),
        settings=settings,
        left_out=left_out,
        other=raw.other,
        unused=unused + converted.unused,
        notes=_notes(converted, config),
    )
    with torch.device("meta"):
        model = FrosterForVideoClassification(config)
        if keep_projectors:
            model.add_distillation_projectors("residual")
    _save(model, {f"froster.{name}": tensor for name, tensor in state.items()}, target, max_shard_size, report)
    if teacher_target is not None:
        with torch.device("meta"):
            teacher = CLIPModel(_teacher_config(config))
        _save(teacher, converted.teacher, teacher_target, max_shard_size, None)
    return report


def _resolve(source: str | os.PathLike[str]) -> Path:
    """A path as it is; the name of a Hub repository as its snapshot on this machine."""
    path = Path(source)
    if path.exists() or not REPOSITORY.fullmatch(str(source)):
        return path
    folder = Path(snapshot_download(str(source), allow_patterns=CLIP_FILES))
    if not any(folder.glob("*.safetensors")):
        folder = Path(snapshot_download(str(source), allow_patterns=[*CLIP_FILES, "pytorch_model*.bin*"]))
    return folder


def _free_folder(folder: str | os.PathLike[str]) -> Path:
    path = Path(folder)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ValueError(f"{path} exists and is not an empty folder. Give another folder, or remove it.")
    return path


def _unwrap(raw: RawCheckpoint) -> tuple[dict[str, Tensor], str, list[str]]:
    """Take the weights out of a file's sections and of `module.`, which DistributedDataParallel puts before names.

    Returns:
        The weights; where they were; tensors of sections that are not known.
    """
    sections: dict[str, dict[str, Tensor]] = {}
    for name, tensor in raw.tensors.items():
        section, slash, rest = name.partition("/")
        sections.setdefault(section if slash else "", {})[rest if slash else name] = tensor
    known = [section for section in SECTIONS if section in sections] or [""]
    # ActionCLIP's files have two sections that belong together; of all others only the first one counts.
    taken = known[:1] + [section for section in known[1:] if SECTIONS[section]]
    weights: dict[str, Tensor] = {}
    found = []
    for section in taken:
        tensors = sections.pop(section, {})
        if section:
            found.append(f"section {section}")
        if tensors and all(name.startswith("module.") for name in tensors):
            tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
            found.append("prefix module.")
        weights |= {SECTIONS.get(section, "") + name: tensor for name, tensor in tensors.items()}
    unknown = [f"{section}/{name}" for section, tensors in sections.items() for name in tensors]
    return weights, ", ".join(found), unknown


def _recognise(raw: RawCheckpoint, tensors: Mapping[str, Tensor]) -> Layout:
    """The layout; an ActionCLIP file with the head that has no weights is told by its empty section."""
    layout = recognise_layout(tensors)
    return "actionclip" if layout == "openai" and "fusion_model_state_dict" in raw.other else layout


def _clip_config(raw: RawCheckpoint) -> dict | None:
    """The `config.json` of a folder, if it is one of CLIP."""
    if raw.config is None:
        return None
    kind = raw.config.get("model_type")
    if kind == "froster":
        raise ValueError(f"{raw.path} is a checkpoint of this package already; load it with from_pretrained.")
    if kind != "clip":
        raise ValueError(
            f"{raw.path} is a checkpoint of type {kind!r}; of transformers' models only 'clip' is converted."
        )
    return raw.config


def _token_embedding(base: str | os.PathLike[str] | None, tensors: Mapping[str, Tensor]) -> Tensor:
    """The token embedding of the CLIP that a ViFi-CLIP file was trained from.

    The file holds embedded prompts; each begins with the start token, so a wrong CLIP can be told.
    """
    if base is None:
        raise ValueError(
            "A ViFi-CLIP file holds no token embedding: its code never trains it. Give the CLIP that the file was "
            "trained from as `token_embedding_from`, for example openai/clip-vit-base-patch16."
        )
    other = convert_state_dict(_unwrap(read_checkpoint(_resolve(base)))[0], strict=False).model
    if TOKEN_EMBEDDING not in other:
        raise ValueError(f"{base} (`token_embedding_from`) holds no token embedding either.")
    embedding = other[TOKEN_EMBEDDING]
    for name in ("prompt_learner.complete_text_embeddings", "prompt_learner.token_prefix"):
        if name not in tensors:
            continue
        start, expected = tensors[name][:, 0].float(), embedding[-2].float()
        if start.shape[-1] != expected.shape[0] or not torch.allclose(start, expected.expand_as(start), atol=1e-4):
            raise ValueError(
                f"{base} (`token_embedding_from`) is not the CLIP that the file was trained from: the start token of "
                f"{name} is embedded differently there."
            )
    return embedding


def _named(tensors: Mapping[str, Tensor], prefix: str) -> list[str]:
    return [name for name in tensors if name.startswith(prefix)]


def _notes(converted: ConvertedStateDict, config: FrosterConfig) -> list[str]:
    notes = [NOTES[converted.layout]] if converted.layout in NOTES else []
    if config.temporal_module == "channel_shift" and converted.layout == "froster":
        notes.append(
            "FROSTER's public code scrambles the axes in channel_shift; this package shifts as published, so outputs "
            "differ from that code's."
        )
    if config.temporal_pooling == "conv1d":
        notes.append(
            "ActionCLIP's public code views (B, T, D) as (B, D, T) in Conv_1D; this package transposes, so outputs "
            "differ from that code's."
        )
    return notes


def _teacher_config(config: FrosterConfig) -> CLIPConfig:
    return CLIPConfig(
        text_config=config.text_config.to_dict(),
        vision_config=config.vision_config.to_dict(),
        projection_dim=config.projection_dim,
    )


def _save(
    model: PreTrainedModel,
    state: Mapping[str, Tensor],
    target: Path,
    max_shard_size: int | str,
    report: ConversionReport | None,
) -> None:
    """Fill an empty model strictly and save it; the folder appears when it is complete."""
    try:
        model.load_state_dict(state, strict=True, assign=True)
    except RuntimeError as error:
        raise ValueError(f"The weights do not fit the architecture that they show: {error}") from error
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        # Given explicitly, since a model saved for inference leaves its projectors behind.
        model.save_pretrained(folder, state_dict=model.state_dict(), max_shard_size=max_shard_size)
        dtypes = {tensor.dtype for tensor in state.values() if tensor.is_floating_point()}
        # Every tensor stays in its own dtype; the model is loaded in the widest, so that no value changes.
        widest = max(dtypes, key=lambda dtype: (torch.finfo(dtype).bits, torch.finfo(dtype).resolution))
        model.config.dtype = str(widest).removeprefix("torch.")
        model.config.save_pretrained(folder)
        if report is not None:
            report.save(folder)
        folder.chmod(0o755)
        os.replace(folder, target)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
