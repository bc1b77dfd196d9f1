"""From a checkpoint of another code base to a folder that `from_pretrained` loads.

    source -> load_source -> convert_state_dict -> infer_config -> an empty model, filled strictly -> folder

Weights are never computed with: a half-precision source stays half precision, bit by bit.
"""

import os
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPConfig, CLIPModel, PreTrainedModel
from transformers.processing_utils import Unpack

from ..foreign_code import drop_foreign_code, foreign_code_of
from ..modeling.configuration_froster import FrosterConfig
from ..modeling.modeling_froster import FrosterForVideoClassification
from ..printing import json_text, listing, one_line, printable, printable_lines
from ..processing.processing_froster import FrosterProcessor
from ..processing.text_files import read_json
from ..processing.video_processing_froster import FrosterVideoProcessor
from ..weights_license import MAX_BYTES, REPORT_FILE
from ..whole_files import new_folder, write_errors
from .architecture import FOREIGN_CONFIGURATION, Setting, UnshownOptions, infer_config, read_license
from .layouts import Layout, find_layout
from .open_clip import check_open_clip
from .reading import TOKEN_EMBEDDING, Source, load_source, resolve, token_embedding_of
from .state_dicts import ConvertedStateDict, convert_state_dict

PathLike = str | os.PathLike[str]
SHOWN = 4


@dataclass
class ConversionReport:
    """An account of a conversion; `print(report)` shows it, `conversion.json` has all of it.

    Attributes:
        source: what was converted, as it was given.
        output: the folder that was written.
        format: how the source is stored: `pickle`, `torchscript`, `safetensors`, `transformers`.
        layout: whose names it has.
        sha256: SHA-256 of the source's bytes.
        wrapping: the section of the file and the prefix that the weights were found under; empty for none.
        num_tensors: tensors written.
        num_parameters: numbers in them.
        dtypes: tensors written by dtype.
        settings: every field of the configuration with its origin.
        license: license of the weights, where the source shows it; FROSTER's own files do, by projectors or teacher.
        left_out: tensors of the source that are not in the output, each with the reason.
        other: entries of the source that are not tensors, and what they are.
        unused: names that nobody knows; always empty with `strict=True`.
        notes: what the reader should know besides.
    """

    source: str
    output: str
    format: str
    layout: str
    sha256: str
    wrapping: str
    num_tensors: int
    num_parameters: int
    dtypes: dict[str, int]
    settings: list[Setting]
    license: str | None = None
    left_out: dict[str, str] = field(default_factory=dict)
    other: dict[str, str] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        dtypes = ", ".join(f"{count} in {dtype}" for dtype, count in self.dtypes.items())
        where = f", {self.wrapping}" if self.wrapping else ""
        lines = [
            f"source      {printable(self.source)} ({self.format}, sha256 {self.sha256[:16]})",
            f"recognized  {find_layout(self.layout).title}{where}",
            f"written     {printable(self.output)}: {self.num_tensors} tensors ({dtypes}), "
            f"{self.num_parameters:,} numbers",
            "settings",
        ]
        lines += [f"  {s.name:17} {printable(str(s.value))}  [{s.origin}]" for s in self.settings]
        if self.license is not None:
            lines.append(f"license     {printable(self.license)}")
        lines.append(f"left out    {len(self.left_out)} tensors")
        for reason in dict.fromkeys(self.left_out.values()):
            names = [name for name, why in self.left_out.items() if why == reason]
            rest = f", ... (all in {REPORT_FILE})" if len(names) > SHOWN else ""
            lines.append(f"  {len(names):3} {listing(names[:SHOWN])}{rest}: {reason}")
        lines.append(f"not tensors {listing(f'{name} ({what})' for name, what in self.other.items()) or 'none'}")
        lines.append(f"unused      {len(self.unused)} tensors")
        lines += [f"    {printable(name)}" for name in self.unused]
        lines += [f"note        {note}" for note in self.notes]
        return printable_lines(lines)

    def save(self, folder: Path) -> None:
        """Write `conversion.json` beside the weights; see `write_report`."""
        write_report(folder, asdict(self))


def write_report(folder: Path, report: Mapping[str, Any]) -> None:
    """Write the report of a conversion beside the weights.

    Raises:
        ValueError: it would be longer than what `read_report` reads, and the folder could not be used.
    """
    text = json_text(report, indent=2, default=str) + "\n"
    if len(text.encode()) > MAX_BYTES:
        raise ValueError(
            f"The report of the conversion, {REPORT_FILE}, would have more than {MAX_BYTES} bytes, the most that is "
            "read of it. Take away from the source what is not the model's."
        )
    (folder / REPORT_FILE).write_text(text, encoding="utf-8")


def read_report(path: Path) -> Mapping[str, Any] | None:
    """The report that `froster convert` left beside the weights; `None` where there is none.

    Args:
        path: path of the file.

    Raises:
        ValueError: the file is there, but is not such a report.
    """
    if not path.is_file():
        return None
    report = read_json(path, max_bytes=MAX_BYTES)
    kinds = {"source": str, "layout": str, "sha256": str, "left_out": dict, "license": str | None}
    if not isinstance(report, dict) or not all(
        isinstance(report.get(name), kind) and (name in report or name == "license") for name, kind in kinds.items()
    ):
        raise ValueError(f"{path} is not a report of `froster convert`.")
    known = [entry.name for entry in fields(ConversionReport)]
    return {name: report[name] for name in known if name in report}


def convert_checkpoint(
    source: PathLike,
    output: PathLike,
    *,
    layout: Layout | None = None,
    processor_from: PathLike | None = None,
    token_embedding_from: PathLike | None = None,
    keep_projectors: bool = False,
    teacher_output: PathLike | None = None,
    strict: bool = True,
    max_shard_size: int | str = "5GB",
    **unshown: Unpack[UnshownOptions],
) -> ConversionReport:
    """Convert a checkpoint to a folder with configuration, safetensors, processor, and the report `conversion.json`.

    Args:
        source: a file of FROSTER, Open-VCLIP, ActionCLIP, ViFi-CLIP or OpenAI's CLIP (pickle, TorchScript archive or
            safetensors), or a CLIP folder or repository of transformers.
        output: the folder to write; must not exist, or be empty.
        layout: whose names the source has; recognized where it is `None`.
        processor_from: a CLIP of transformers with the same vocabulary, for tokenizer and pixel statistics. Default:
            the source, where it is such a repository with these files, whose resize is kept as well; else only the
            video processor is written.
        token_embedding_from: the CLIP that a ViFi-CLIP file was trained from; its own files lack the token embedding.
        keep_projectors: also write FROSTER's distillation projectors, to go on training with them.
        teacher_output: also write the frozen teacher of a FROSTER file to this folder, as a CLIP of transformers.
        strict: refuse tensors that no table knows. If not, they are listed in the report.
        max_shard_size: largest size of one weight file.
        unshown: what no weight shows (temporal module, activation, heads, ...); see [`UnshownOptions`]. Not needed for
            files that [`write_original_checkpoint`] wrote, which state it.

    Returns:
        What was read, assumed, left out and written.

    Raises:
        CheckpointError: the source cannot be read, or is not read because it would not be safe.
        ValueError: the source is complete in no known layout, an option or open_clip's configuration beside it
            contradicts it, what is left out of it is too much for a report, or `output` is taken.
    """
    with ExitStack() as outputs:
        folder = outputs.enter_context(new_folder(output))
        teacher_folder = None if teacher_output is None else outputs.enter_context(new_folder(teacher_output))
        found = load_source(source, layout=layout)
        converted = _convert(found, token_embedding_from, strict=strict)
        _check_requests(converted, keep_projectors=keep_projectors, with_teacher=teacher_folder is not None)
        config, settings = infer_config(
            converted,
            texts=found.raw.texts,
            stated=found.raw.statement,
            clip_config=found.clip_config,
            **unshown,
        )
        own = None if processor_from else _own_processor(found)
        processor = _processor(processor_from or own, config, converted.layout, is_own=own is not None)
        check_open_clip(found, config, getattr(processor.value, "video_processor", processor.value))
        state = converted.model | (converted.projectors if keep_projectors else {})
        model = _filled(
            FrosterForVideoClassification,
            config,
            {f"froster.{name}": tensor for name, tensor in state.items()},
            with_projectors=keep_projectors,
        )
        teacher = None if teacher_folder is None else _filled(CLIPModel, _clip_config(config), converted.teacher)
        report = ConversionReport(
            source=str(source),
            output=str(output),
            **_account(found, converted, state),
            settings=[*settings, *processor.settings],
            left_out=_left_out(
                found, converted, with_projectors=keep_projectors, with_teacher=teacher_folder is not None
            ),
            notes=[*_notes(converted, config), *processor.notes],
        )
        with write_errors(output):
            _save(model, folder, max_shard_size)
            processor.value.save_pretrained(folder)
            # The processor's files come from another checkpoint, which may name some.
            foreign = [] if (named_by := processor_from or own) is None else foreign_code_of(named_by, folder)
            report.notes += [f"Foreign code dropped: {named}" for named in [*foreign, *drop_foreign_code(folder)]]
            report.save(folder)
        if teacher is not None and teacher_folder is not None:
            with write_errors(teacher_folder):
                _save(teacher, teacher_folder, max_shard_size)
    return report


def _account(found: Source, converted: ConvertedStateDict, state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Fields of the report that say what was read, and which tensors of it are written."""
    own_license = find_layout(converted.layout).license
    return {
        "format": found.raw.format,
        "layout": found.layout,
        "sha256": found.raw.sha256,
        "wrapping": found.wrapping,
        "num_tensors": len(state),
        "num_parameters": sum(tensor.numel() for tensor in state.values()),
        "dtypes": dict(Counter(str(tensor.dtype).removeprefix("torch.") for tensor in state.values())),
        "license": own_license if converted.projectors or converted.teacher else read_license(found.raw.statement),
        "other": found.raw.other,
        "unused": found.unused + converted.unused,
    }


def _convert(found: Source, token_embedding_from: PathLike | None, *, strict: bool) -> ConvertedStateDict:
    if strict and found.unused:
        raise ValueError(
            f"{found.raw.path} has sections with tensors that this package does not know: {listing(found.unused)}. "
            "To leave them out: `--allow-unused`, `strict=False`."
        )
    converted = convert_state_dict(found.weights, layout=found.layout, strict=strict)
    if TOKEN_EMBEDDING in find_layout(converted.layout).lacks:
        base = token_embedding_of(token_embedding_from, found.weights, layout=converted.layout)
        converted.model[TOKEN_EMBEDDING] = base
    return converted


def _check_requests(converted: ConvertedStateDict, *, keep_projectors: bool, with_teacher: bool) -> None:
    if keep_projectors and not converted.projectors:
        raise ValueError("keep_projectors=True, but the source has no distillation projectors (projector_*).")
    if with_teacher and not converted.teacher:
        raise ValueError("teacher_output is given, but the source holds no teacher (raw_model.*).")


def _left_out(
    found: Source, converted: ConvertedStateDict, *, with_projectors: bool, with_teacher: bool
) -> dict[str, str]:
    """Every tensor of the source that is not in the output, with the reason."""
    left_out = dict(converted.dropped)
    entry = find_layout(converted.layout)
    if converted.projectors and not with_projectors:
        names = [name for name in found.weights if name.startswith(entry.names_of("projectors"))]
        left_out |= dict.fromkeys(names, "projectors, used in training only; keep_projectors keeps them")
    if converted.teacher and not with_teacher:
        names = [name for name in found.weights if name.startswith(entry.names_of("teacher"))]
        left_out |= dict.fromkeys(names, "the frozen teacher, used in training only; teacher_output keeps it")
    return left_out


def _notes(converted: ConvertedStateDict, config: FrosterConfig) -> list[str]:
    notes = find_layout(converted.layout).notes
    return [notes[key] for key in ("", config.temporal_module, config.temporal_pooling) if key in notes]


@dataclass
class _Processor:
    """What is saved beside the model, and what to say about it."""

    value: FrosterProcessor | FrosterVideoProcessor
    settings: list[Setting]
    notes: list[str]


def _own_processor(found: Source) -> Path | None:
    """The source itself, where it is a CLIP repository with all files of a processor."""
    folder = found.raw.path
    if found.clip_config is None or not (folder / "tokenizer_config.json").exists():
        return None
    has_pixels = (folder / "preprocessor_config.json").exists() or (folder / "processor_config.json").exists()
    return folder if has_pixels else None


def _processor(clip: PathLike | None, config: FrosterConfig, layout: str, *, is_own: bool) -> _Processor:
    """The processor of a CLIP; of another one than the source, the resize to the model's side is CLIP's."""
    side: Any = config.vision_config.image_size
    square = {"height": side, "width": side}
    options: dict[str, Any] = {"num_frames": config.num_frames}
    if not is_own:
        options |= {"size": {"shortest_edge": side}, "crop_size": square, "do_center_crop": True}
    if clip is None:
        note = "No tokenizer is written; give a CLIP of transformers with the same vocabulary as `processor_from`."
        return _Processor(FrosterVideoProcessor(**options), [], [note])
    templates = find_layout(layout).templates
    try:
        folder = resolve(clip, weights=False)
        processor = FrosterProcessor.from_clip(folder, prompt_templates=templates, video_options=options)
    except FOREIGN_CONFIGURATION as error:
        reason = one_line(str(error), limit=500)
        raise ValueError(f"The processor of {printable(str(clip))} cannot be loaded: {reason}") from error
    pixels = processor.video_processor
    size, crop = dict(pixels.size), dict(pixels.crop_size)
    smallest = min(size.values(), default=0) if pixels.do_resize else side
    if not (crop == square and smallest >= side if pixels.do_center_crop else pixels.do_resize and size == square):
        raise ValueError(
            f"The image processor of {printable(str(clip))} does not make the pictures that the model takes, {side} "
            f"pixels to each side: do_resize {pixels.do_resize}, size {printable(str(size))}, do_center_crop "
            f"{pixels.do_center_crop}, crop_size {printable(str(crop))}. Mend it, or give another CLIP as "
            "`processor_from`."
        )
    text = config.text_config
    tokens = (len(processor.tokenizer), processor.tokenizer.eos_token_id)
    expected = (text.vocab_size, config.end_token_id)
    if tokens != expected:
        raise ValueError(
            f"The tokenizer of {clip} has {tokens[0]} tokens and ends texts with token {tokens[1]}, but the model has "
            f"{expected[0]} and reads at {expected[1]}. Give the CLIP that the source was trained from."
        )
    return _Processor(processor, [Setting("prompt_templates", templates, "published default")], [])


def _clip_config(config: FrosterConfig) -> CLIPConfig:
    return CLIPConfig(
        text_config=config.text_config.to_dict(),
        vision_config=config.vision_config.to_dict(),
        projection_dim=config.projection_dim,
    )


def _filled(
    kind: type[PreTrainedModel], config: Any, state: Mapping[str, Tensor], *, with_projectors: bool = False
) -> PreTrainedModel:
    """A model with these weights, each of which keeps its dtype.

    Raises:
        ValueError: no such model can be built, or the weights are not its.
    """
    try:
        with torch.device("meta"):
            model: Any = kind(config)
            if with_projectors:
                model.add_distillation_projectors("residual")
        model.load_state_dict(state, strict=True, assign=True)
    except (RuntimeError, AssertionError, TypeError, ArithmeticError) as error:
        reason = one_line(str(error), limit=1000)
        raise ValueError(f"The weights do not fit the architecture that they show: {reason}") from error
    return model


def _save(model: PreTrainedModel, folder: Path, max_shard_size: int | str) -> None:
    state = model.state_dict()
    # Given explicitly, since a model that is saved for inference leaves its projectors behind.
    model.save_pretrained(folder, state_dict=state, max_shard_size=max_shard_size)
    dtypes = {parameter.dtype for parameter in model.parameters()}
    # Where dtypes are mixed, the model is to be loaded in the widest, so that no value is rounded.
    widest = max(dtypes, key=lambda dtype: torch.finfo(dtype).bits)
    model.config.dtype = str(widest).removeprefix("torch.")
    model.config.save_pretrained(folder)
