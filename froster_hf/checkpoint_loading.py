"""The pipeline of a checkpoint that somebody else made: by installed code only, with a reason where it fails."""

import copy
import difflib
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from .adapters import Adapter, check_adapter_weights, read_adapter, without_peft_warnings
from .assets import SMALL_FROSTER
from .checkpoint_files import (
    CONFIG,
    HUB_KEYWORDS,
    CheckpointError,
    check_checkpoint_files,
    check_headers,
    finder,
    own_names,
    read_settings,
    refuse_other_shards,
    shard_names,
)
from .printing import did_you_mean, listing, one_line, printable, without_warnings
from .quantization_files import check_quantization, refuse_other_quantizers
from .video.files import find_alike

# Options with which transformers loads models and configurations by installed code only.
INSTALLED_ONLY = {
    # Given explicitly: transformers would otherwise ask on standard input.
    "trust_remote_code": False,
    # Given, if only as the default: a file could name a repository of kernels, whose machine code would run.
    "attn_implementation": None,
    "experts_implementation": None,
}

# A variable of the environment that transformers asks.
NO_CONVERSION = "DISABLE_SAFETENSORS_CONVERSION"

# Numbers of a model that is loaded whatever its files hold; transformers then names the tensors that they lack.
SMALL_MODEL = 10_000_000

# Tensors that a checkpoint may hold although its model has no place for them: positions that old checkpoints of CLIP
# have, projectors, which end with the training, and a label bank, which is the text tower's output.
LEFT_OUT = re.compile(r"(^|\.)(position_ids|label_embeds)$|(^|\.)distillation_projectors\.")

# Names that stand for checkpoints that ship with the package; they come before folders of the same name.
SHIPPED_CHECKPOINTS = {"small": SMALL_FROSTER}
DEFAULT_MODEL = "visual-ai/froster-b16"
HOW_TO_GET_A_MODEL = (
    '  convert FROSTER\'s released Kinetics-400 weights (github.com/Visual-AI/FROSTER, "Weights", links them on '
    "Google Drive; CC BY-NC-SA 4.0): froster convert FILE my-froster --processor-from openai/clip-vit-base-patch16",
    "  or take any CLIP as the baseline: --model openai/clip-vit-base-patch32",
    "  or the small model that ships with the package, which knows moving shapes only: --model small",
)


class ModelNotFoundError(ValueError):
    """There is no checkpoint of a name, neither on this disk nor on the Hub.

    Attributes:
        advice: lines that say how to get one.
    """

    def __init__(self, message: str, advice: tuple[str, ...] = ()):
        super().__init__(message)
        self.advice = advice


def checkpoint_path(name: str | os.PathLike[str]) -> str:
    """The folder of a shipped checkpoint (`small`); every other name or path as it is."""
    return os.fspath(SHIPPED_CHECKPOINTS.get(os.fspath(name), name))


def load_pipeline(
    name: str | os.PathLike[str] = DEFAULT_MODEL, *, device: str | None = None, dtype: str = "auto"
) -> Any:
    """The zero-shot pipeline of a FROSTER or plain CLIP checkpoint, by installed code only.

    As `pipeline("zero-shot-video-classification", model=name)`, where `small`, the shipped checkpoint, is not known.
    Code that lies in a checkpoint is never run, whatever its files ask for, and nobody is asked whether it may.

    Args:
        name: a folder, a name on the Hub, or `small`.
        device: such as `cpu` or `cuda:0`; by default the first accelerator.
        dtype: type of the weights; `auto` is the checkpoint's.

    Raises:
        ModelNotFoundError: there is no such checkpoint.
        ValueError: the checkpoint is damaged or of another kind, or there is no such device, or no room on it.
    """
    import torch

    if is_path(os.fspath(name)) and not os.path.exists(name):
        raise model_not_found(os.fspath(name))
    if device is not None:
        _check_device(device)
    try:
        with hub_asked_once(name):
            return load_installed(name, device=device, dtype=dtype)
    except torch.OutOfMemoryError as error:
        reason = one_line(str(error)).partition(". ")[0]
        raise ValueError(
            f"The device has no room for the model ({reason}). Give another one with --device, such as cpu."
        ) from error
    # A folder of somebody else's can make transformers fail in any way: the fault is the folder's.
    except Exception as error:
        # What is not found is an `OSError` of transformers; all else is of files, which may lie in the Hub's cache.
        if os.path.exists(checkpoint_path(name)) or not isinstance(error, OSError):
            raise ValueError(
                f"The model in {printable(os.fspath(name))} cannot be loaded: {loading_reason(error)}"
            ) from error
        raise model_not_found(os.fspath(name), error) from error


def _check_device(name: str) -> None:
    import torch

    try:
        # Computed with, since a name may be known while its hardware is missing, or holds no values.
        torch.zeros(1, device=name).item()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"The device {name} cannot be used: {reason}. Give cpu, cuda, cuda:0, mps or the like."
        ) from error


def model_not_found(name: str, error: Exception | None = None) -> ModelNotFoundError:
    """The error for a name that no checkpoint has; for the default one, with how to get a model.

    Args:
        name: as it was given.
        error: of the Hub; `None` where it was not asked, since the name is a path.
    """
    if name == DEFAULT_MODEL:
        return ModelNotFoundError(
            f"The default model, {DEFAULT_MODEL}, cannot be had: it is not published, or the Hub cannot be reached. "
            "Choose a model:",
            HOW_TO_GET_A_MODEL,
        )
    guess = did_you_mean([*difflib.get_close_matches(name, SHIPPED_CHECKPOINTS, n=1), *find_alike(name)])
    where = (
        "there is no such folder"
        if error is None
        else "it is not a folder on this disk, and the Hub did not provide it"
    )
    reason = "" if error is None else f" ({one_line(str(error))})"
    return ModelNotFoundError(
        f"The model {printable(name)!r} cannot be loaded: {where}. {guess}Name a folder, a name on the Hub, or small "
        f"with --model.{reason}"
    )


def is_path(name: str) -> bool:
    """Whether a checkpoint's name is meant to be a folder: one on the Hub has one slash, and begins with a letter."""
    return name.startswith((".", "/", "~")) or name.count("/") > 1 or name.endswith("/")


@contextmanager
def hub_asked_once(checkpoint: str | os.PathLike[str]) -> Iterator[None]:
    """Ask the Hub for a checkpoint once; where it does not answer, the block finds what is in its cache, or nothing.

    Each file that is not in the cache would be asked for again and again, for half a minute.

    Args:
        checkpoint: a folder, of which nobody is asked, or a name on the Hub.
    """
    from huggingface_hub import constants  # waits for the network's libraries

    name = checkpoint_path(checkpoint)
    if os.path.exists(name) or _hub_answers(name):
        yield
        return
    before = constants.HF_HUB_OFFLINE
    # What the environment's HF_HUB_OFFLINE sets; huggingface_hub and transformers read it whenever they would ask.
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _hub_answers(name: str) -> bool:
    """Whether the Hub says anything at all of a repository; if only that it has none of this name."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        get_hf_file_metadata(hf_hub_url(name, "config.json"))
    except HfHubHTTPError as error:
        # 429: it would be asked again and again, for minutes, for each file.
        return error.response.status_code < 500 and error.response.status_code != 429
    except HFValidationError:  # not a name that it could have; loading says so
        return True
    except Exception:  # of the HTTP library, whose errors have no base class that huggingface_hub names
        return False
    return True


def load_installed(checkpoint: str | os.PathLike[str], *, device: str | None, dtype: str) -> Any:
    """The zero-shot pipeline of a FROSTER or plain CLIP checkpoint, or of a PEFT adapter and the checkpoint it names.

    The processor is the one beside the adapter, where there is one: it was trained with that.
    No code that the checkpoint's files bring or name is run, and nobody is asked whether it may.

    Args:
        checkpoint: a folder, a name on the Hub, or `small`, the shipped checkpoint.
        device: such as `cpu` or `cuda:0`; by default the first accelerator.
        dtype: type of the weights; `auto` is the checkpoint's.

    Raises:
        ValueError: the checkpoint has no weights for a part of its model, or of other shapes, which transformers would
            draw at random, or weights of another model, which it would leave out.
        Exception: of any kind that transformers raises; `loading_reason` says it in one line.
    """
    checkpoint = checkpoint_path(checkpoint)
    adapter = read_adapter(checkpoint)
    base = checkpoint if adapter is None else checkpoint_path(adapter.base)
    with nullcontext() if adapter is None else hub_asked_once(base):
        return _load_onto(base, checkpoint, adapter, device=device, dtype=dtype)


def _load_onto(base: str, checkpoint: str, adapter: Adapter | None, *, device: str | None, dtype: str) -> Any:
    """The pipeline of a checkpoint, or of one and the adapter for it; see `load_installed`."""
    from transformers import AutoModel, AutoModelForVideoClassification, pipeline

    from .processing.calibrations import forget_calibration
    from .processing.processing_froster import FrosterProcessor
    from .processing.tokenizer_files import load_processor

    revision = current_commit(base, None if adapter is None else adapter.base_revision)
    config = checked_config(base, revision=revision)
    if adapter is not None:
        with without_peft_warnings():
            check_adapter_weights(config, adapter)
    is_froster = config.model_type == "froster"
    model_class = AutoModelForVideoClassification if is_froster else AutoModel
    # What transformers says of the files' tensors, by their names; what matters of it is said below.
    with without_warnings():
        model, report = model_class.from_pretrained(
            base,
            revision=revision,
            config=config,
            dtype=dtype,
            output_loading_info=True,
            # Refused below by their names, which transformers would only write into a report.
            ignore_mismatched_sizes=True,
            **INSTALLED_ONLY,
        )
    load: Any = FrosterProcessor.from_pretrained if is_froster else load_processor
    if adapter is not None and (beside := _processor_files(adapter)):
        processor = _load_processor_beside(load, adapter, beside, is_froster=is_froster)
    else:
        processor = load(base, revision=revision)
        if adapter is not None:
            forget_calibration(vars(processor), of="the weights with the adapter")
    task: Any = "zero-shot-video-classification"
    classify = pipeline(task, model=model, processor=processor, device=device)
    if adapter is not None:
        # The model that a CLIP is put into has a CLIP's names within.
        adapted = classify.model if is_froster else classify.model.froster
        with without_warnings(), without_peft_warnings():
            adapted.load_adapter(checkpoint, adapter_kwargs={"revision": adapter.commit})
    # Of an adapter, it is the name of the checkpoint that it is for.
    classify.model.config._name_or_path = checkpoint
    _refuse_differences(report["mismatched_keys"], report["missing_keys"], report["unexpected_keys"])
    refuse_other_scale(model)
    return classify


def refuse_other_scale(model: Any) -> None:
    """Raise where what a model multiplies its logits by is not a number above 0.

    Raises:
        ValueError: names the weight.
    """
    scales = {name: weight for name, weight in model.named_parameters() if name.endswith("logit_scale")}
    for name, weight in scales.items():
        scale = weight.detach().float().exp()
        # Of weights that are split over processes, this one may have nothing.
        if not ((scale > 0) & (scale < math.inf)).all():
            raise ValueError(
                f"`{name}` is {weight.tolist()}, so that logits would be multiplied by {scale.tolist()}. The weights "
                "are damaged: get the checkpoint again."
            )


def _processor_files(adapter: Adapter) -> list[str]:
    """The files beside an adapter that say what is done to pixels; a tokenizer alone is that of the base."""
    from transformers.utils import IMAGE_PROCESSOR_NAME, PROCESSOR_NAME, VIDEO_PROCESSOR_NAME

    names = (PROCESSOR_NAME, IMAGE_PROCESSOR_NAME, VIDEO_PROCESSOR_NAME)
    return [name for name in names if adapter.file(name) is not None]


def _load_processor_beside(load: Any, adapter: Adapter, files: list[str], *, is_froster: bool) -> Any:
    """The processor beside an adapter, in one file, or of a plain CLIP in several, as transformers 4 saved it.

    Raises:
        ValueError: there is a part of a processor only.
        Exception: of any kind that transformers raises.
    """
    from transformers.utils import IMAGE_PROCESSOR_NAME, PROCESSOR_NAME

    in_several = not is_froster and IMAGE_PROCESSOR_NAME in files and adapter.file("tokenizer_config.json") is not None
    if PROCESSOR_NAME in files or in_several:
        processor = load(adapter.name, revision=adapter.commit)
        if is_froster or (hasattr(processor, "tokenizer") and hasattr(processor, "image_processor")):
            return processor
    raise ValueError(
        f"{printable(adapter.name)} is an adapter with a part of a processor ({', '.join(files)}). Save the whole "
        f"processor of the training beside it, as `save_pretrained` does, or take the part away: then the "
        f"processor of {printable(adapter.base)} is taken."
    )


def refuse_other_weights(config: Any, shapes: Mapping[str, Sequence[int]]) -> None:
    """Raise where weights that are not loaded into a model are not those of the model that a configuration describes.

    Args:
        config: of a FROSTER model or a dual encoder.
        shapes: of the weights, by their names within the base model.

    Raises:
        ValueError: a tensor is missing, has another shape, or has no place in the model.
    """
    refuse_other_tensors(described_weights(config), shapes)


def refuse_other_tensors(described: Mapping[str, Any], shapes: Mapping[str, Sequence[int]]) -> None:
    """As `refuse_other_weights`, of what `described_weights` has said already."""
    expected = {
        name.removeprefix("froster."): tuple(tensor.shape)
        for name, tensor in described.items()
        if not LEFT_OUT.search(name)
    }
    mismatched = [
        (name, tuple(shapes[name]), shape)
        for name, shape in expected.items()
        if name in shapes and tuple(shapes[name]) != shape
    ]
    _refuse_differences(mismatched, expected.keys() - shapes.keys(), shapes.keys() - expected.keys())


def _refuse_differences(
    mismatched: Iterable[tuple[str, Sequence[int], Sequence[int]]], missing: Iterable[str], unplaced: Iterable[str]
) -> None:
    """Raise for tensors that are not those of the model: with their shapes and those of the model, and by name."""
    if mismatched := sorted(mismatched):
        name, stored, described = mismatched[0]
        raise ValueError(
            f"{len(mismatched)} tensors of its files have other shapes than its configuration describes, such as "
            f"{printable(name)}: {tuple(stored)}, and not {tuple(described)}."
        )
    unplaced = list(unplaced)
    if missing := sorted(missing):
        # As peft calls what it updates.
        is_of_lora = any(".base_layer." in name for name in unplaced)
        advice = " It is in the midst of a LoRA training, whose folder `model` has the merged weights at its end."
        raise ValueError(
            f"{len(missing)} tensors of the model that its configuration describes are not in its files: "
            f"{listing(missing, limit=3)}.{advice if is_of_lora else ''}"
        )
    refuse_unplaced(unplaced)


def refuse_unplaced(names: Iterable[str]) -> None:
    """Raise where a checkpoint holds weights that its model has no place for, but those that are known to be left out.

    The answers would be those of another model than the one that was trained: without its updates, or its last layers.

    Args:
        names: of tensors that the model has no place for.

    Raises:
        ValueError: names the first of them.
    """
    if unplaced := sorted(name[:100] for name in names if not LEFT_OUT.search(name)):
        raise ValueError(
            f"{len(unplaced)} tensors of its files have no place in the model that its configuration describes: "
            f"{listing(unplaced, limit=3)}. They may matter to its answers. Get the configuration that belongs to the "
            "weights, or merge updates into the weights where they were trained, and save those."
        )


@contextmanager
def naming_checkpoint(field: str, checkpoint: str | os.PathLike[str]) -> Iterator[None]:
    """Make whatever transformers raises for somebody else's checkpoint one line that names it and the field.

    Args:
        field: name of the setting that names the checkpoint.
        checkpoint: a folder, or a name on the Hub.
    """
    import torch

    try:
        yield
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise ValueError(
            f"`{field}` is {printable(repr(os.fspath(checkpoint)))}, from which no model can be loaded: "
            f"{loading_reason(error)}"
        ) from error


def current_commit(checkpoint: str, revision: str | None) -> str | None:
    """The commit that a revision of a repository on the Hub is now, so that all of its files are of one.

    A branch moves on while gigabytes are fetched: what was checked would not be what is loaded.

    Args:
        checkpoint: a folder, or a name on the Hub.
        revision: of the repository, by default its main one; of a folder, and where there is no such repository, which
            loading says, it is returned as it is.
    """
    from transformers.utils import CONFIG_NAME, cached_file
    from transformers.utils.hub import extract_commit_hash

    if os.path.exists(checkpoint):
        return revision
    try:
        file = cached_file(checkpoint, CONFIG_NAME, revision=revision)
    except (OSError, ValueError):
        return revision
    return extract_commit_hash(file, None) or revision


def checked_config(checkpoint: str | os.PathLike[str], *, revision: str | None = None) -> Any:
    """The configuration of a checkpoint whose weights can be loaded: by installed code, and no more than there are.

    Weights in pickles have been read once by then, in a process of their own with bounded memory.

    Args:
        checkpoint: a folder, or a name on the Hub.
        revision: of the repository on the Hub, by default its main one.

    Raises:
        ValueError: see `refuse_foreign_parts`, `refuse_oversized`, `check_headers`, `check_pickles`,
            `refuse_other_shards` and `own_names`; or the model is of another kind, or is quantized and does not say
            so.
        OSError: there is no such checkpoint.
    """
    from .modeling.configuration_froster import FrosterConfig

    # Else transformers has a service that nobody named convert weights that are pickled on the Hub, and publish them.
    os.environ.setdefault(NO_CONVERSION, "1")
    config = FrosterConfig.from_fields(refuse_foreign_parts(checkpoint, revision=revision))
    files, weight_map = _weight_files(os.fspath(checkpoint), revision=revision)
    refuse_oversized(config, files)
    _check_weights(config, files, weight_map, where=checkpoint)
    return config


def check_before_loading(checkpoint: str | os.PathLike[str], **kwargs: Any) -> None:
    """Hold a checkpoint to what `from_pretrained` of this package's models, which reads it next, could not bear.

    Args:
        checkpoint: a folder, or a name on the Hub; of an adapter, what it names as its base is checked as well.
        kwargs: of `from_pretrained`; those that say which files are read count.

    Raises:
        ValueError: see `check_checkpoint_files`, `check_headers`, `check_pickles`, `refuse_other_shards`, `own_names`,
            `read_adapter`, `check_adapter_weights`, `refuse_oversized`, `refuse_many_new_parameters` and, of a FROSTER
            checkpoint, `check_readers`.
        OSError: there is no such checkpoint.
    """
    from .modeling.configuration_froster import FrosterConfig, refuse_many_new_parameters
    from .processing.tokenizer_files import check_readers

    where = _places(kwargs)
    given = kwargs.get("adapter_kwargs") or {}
    # transformers' Auto classes have found an adapter before, and hand on its base.
    found = given.get("_adapter_model_path")
    adapter = read_adapter(checkpoint if found is None else found, **where | _places(given))
    config = kwargs.get("config")
    if adapter is not None:
        # As transformers, which takes the model that an adapter's own folder lies in.
        if found is None and not os.path.exists(os.path.join(checkpoint, CONFIG)):
            checkpoint = adapter.base
        check_checkpoint_files(checkpoint, subfolder=where.get("subfolder"))
    elif kwargs.get("gguf_file") is not None:
        return
    if config is None or isinstance(config, str | os.PathLike):
        config = FrosterConfig.from_dict(FrosterConfig.get_config_dict(config or checkpoint, **where)[0])
    config = _installed_config(config)
    if adapter is not None:
        with without_peft_warnings():
            check_adapter_weights(config, adapter)
    choice = {name: kwargs[name] for name in ("use_safetensors", "variant") if name in kwargs}
    files, weight_map = _weight_files(os.fspath(checkpoint), **choice, **where)
    # The caller may ask for another temporal module or pooling, whose weights are in no file.
    refuse_many_new_parameters(config)
    towers = copy.deepcopy(config)
    towers.temporal_module, towers.temporal_pooling = "none", "mean"
    refuse_oversized(towers, files)
    _check_weights(config, files, weight_map, where=checkpoint)
    if read_settings(finder(checkpoint, where)(CONFIG)).get("model_type") == config.model_type:
        check_readers(checkpoint, **where)


def check_adapter_before_loading(name: str | os.PathLike[str], *, config: Any, **kwargs: Any) -> None:
    """Hold an adapter to what `load_adapter` of this package's models, which reads it next, could not bear.

    Args:
        name: a folder, or a name on the Hub.
        config: of the model that it is loaded into.
        kwargs: of `load_adapter`; those that say which files are read count.

    Raises:
        ValueError: pickled weights are asked for; or see `read_adapter` and `check_adapter_weights`.
    """
    if kwargs.get("use_safetensors") is False:
        raise ValueError(
            "`use_safetensors` is False; adapters are read from adapter_model.safetensors only. Leave it out."
        )
    adapter = read_adapter(name, **_places(kwargs) | _places(kwargs.get("adapter_kwargs") or {}))
    if adapter is not None:
        with without_peft_warnings():
            check_adapter_weights(_installed_config(config), adapter)


def _places(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords of a loader that say where files are."""
    # Fetched once: what is loaded next is of the same files.
    return {name: kwargs[name] for name in HUB_KEYWORDS if name != "force_download" and name in kwargs}


def _installed_config(config: Any) -> Any:
    """A configuration as this package's, also one of the repository's own code, where the caller lets that run."""
    from .modeling.configuration_froster import FrosterConfig

    return config if isinstance(config, FrosterConfig) else FrosterConfig.from_dict(config.to_dict())


def refuse_foreign_parts(checkpoint: str | os.PathLike[str], *, revision: str | None = None) -> dict[str, Any]:
    """Raise where transformers would load more for a checkpoint than its own weights into an installed class.

    The configuration of a PEFT adapter names another model to load.
    Most methods of quantization fetch their kernels, machine code, from the Hub.

    Args:
        checkpoint: a folder, or a name on the Hub.
        revision: of the repository on the Hub, by default its main one.

    Returns:
        The fields of its config.json.

    Raises:
        ValueError: the checkpoint has files elsewhere (see `check_checkpoint_files`), an adapter's configuration, a
            config.json that `check_configuration` refuses, or a quantization that is refused (see
            `quantization_files.py`).
        OSError: there is no such checkpoint.
    """
    from .modeling.configuration_froster import FrosterConfig

    name = os.fspath(checkpoint)
    check_checkpoint_files(name)
    refuse_adapter(name, revision=revision)
    config, _ = FrosterConfig.get_config_dict(name, revision=revision)
    refuse_other_quantizers(config, where=name)
    check_quantization(config, where=name)
    return config


def refuse_adapter(name: str, *, revision: str | None = None) -> None:
    """Raise where a checkpoint is an adapter of PEFT, or has one beside it.

    Args:
        name: a folder, or a name on the Hub.
        revision: of the repository on the Hub, by default its main one.

    Raises:
        ValueError: it has an adapter's configuration.
    """
    from transformers.utils import find_adapter_config_file

    if find_adapter_config_file(name, revision=revision) is not None:
        raise ValueError(
            f"{printable(name)} has an adapter_config.json, which names another model. A model is needed here: merge "
            "the adapter into its model where it was trained, and save that."
        )


def refuse_oversized(config: Any, files: Iterable[str | os.PathLike[str]]) -> dict[str, Any]:
    """Raise where a configuration describes a model that its files cannot hold, before memory is taken for it.

    A number takes a byte at least, or half of one where it is quantized.

    Args:
        config: of a FROSTER model or a dual encoder.
        files: of its weights; where there are none, nothing is said.

    Returns:
        The tensors that it describes, as `described_weights` has them; none where there are no files.

    Raises:
        ValueError: the model has more numbers than the files of weights have room for.
    """
    # Shards may be links to one file, which has its numbers once.
    sizes = {(status.st_dev, status.st_ino): status.st_size for status in map(os.stat, files)}
    stored = sum(sizes.values())
    if not stored:
        return {}
    numbers_per_byte = 1 if getattr(config, "quantization_config", None) is None else 2
    described = described_weights(config)
    count = sum(tensor.numel() for tensor in described.values())
    if count > max(numbers_per_byte * stored, SMALL_MODEL):
        raise ValueError(
            f"config.json describes a model of {count:,} numbers, but the weights take {stored:,} bytes: they are not "
            "those of the model. Get the whole checkpoint."
        )
    return described


def described_weights(config: Any) -> dict[str, Any]:
    """The tensors of the FROSTER model that a configuration describes, by name, without memory for their values.

    Args:
        config: of a FROSTER model or a dual encoder, of which the towers alone have all the numbers.
    """
    import torch
    from transformers.initialization import no_init_weights

    from .modeling.configuration_froster import FrosterConfig
    from .modeling.modeling_froster import FrosterForVideoClassification

    if not isinstance(config, FrosterConfig):
        config = FrosterConfig.from_dual_encoder_config(config, temporal_module="none")
    with torch.device("meta"), no_init_weights():
        model = FrosterForVideoClassification._from_config(config, attn_implementation="eager")
    return model.state_dict()


def _check_weights(
    config: Any, files: Sequence[str], weight_map: Mapping[str, str] | None, *, where: str | os.PathLike[str]
) -> None:
    """Have pickled weights read by a process of their own first; transformers reads them in this one.

    Args:
        config: of the model.
        files: of the weights, with their index, as `_weight_files` has them.
        weight_map: see `files`.
        where: the checkpoint, for the error.

    Raises:
        CheckpointError: a file holds more than tensors, is damaged, takes more memory than its size, or has names that
            take more than any model's; or tensors are of other types than weights, and may not be; or there are two
            of one tensor.
    """
    from safetensors import SafetensorError, safe_open

    may_be_quantized = getattr(config, "quantization_config", None) is not None
    headers = [file for file in files if file.endswith(".safetensors")]
    names = check_headers(headers, may_be_quantized=may_be_quantized)
    for file in headers:
        try:
            with safe_open(file, "pt"):
                pass
        except SafetensorError as error:
            raise CheckpointError(
                f"{printable(file)} is damaged, or not a safetensors file: {printable(str(error))}."
            ) from error
    if pickles := [file for file in files if not file.endswith(".safetensors")]:
        from .conversion.reading import check_pickles

        names |= check_pickles(pickles, may_be_quantized=may_be_quantized)
    if weight_map is not None:
        refuse_other_shards(names, weight_map)
    stored = [name for shard in names.values() for name in shard]
    own_names(stored, prefix=f"{config.model_type}.", where=where)


def _weight_files(
    checkpoint: str, *, use_safetensors: bool | None = None, variant: str | None = None, **where: Any
) -> tuple[list[str], Mapping[str, str] | None]:
    """The files that transformers would read the weights of a checkpoint from, none where it would find none; and
    where they are shards, the index. The keywords are those of its loader.

    Raises:
        CheckpointError: see `shard_names`; or an index has no object `metadata`, which transformers writes into.
        ValueError: the metadata name a type of weights that is refused.
    """
    from transformers.utils import cached_file
    from transformers.utils.hub import get_checkpoint_shard_files

    from .modeling.configuration_froster import check_dtype

    find: Any = partial(cached_file, checkpoint, **where, _raise_exceptions_for_missing_entries=False)
    infix = "" if variant is None else f".{variant}"
    for stem, kind in (("model", "safetensors"), ("pytorch_model", "bin")):
        if use_safetensors is not None and bool(use_safetensors) != (kind == "safetensors"):
            continue
        if (file := find(f"{stem}{infix}.{kind}")) is not None:
            return [file], None
        if (index := find(f"{stem}.{kind}.index{infix}.json")) is not None:
            weight_map = shard_names(Path(index))
            if not isinstance(metadata := read_settings(index).get("metadata"), Mapping):
                raise CheckpointError(f"{printable(index)} has no object `metadata`. Get the whole checkpoint.")
            check_dtype(metadata, where=f"{printable(index)}: metadata.")
            return list(get_checkpoint_shard_files(checkpoint, index, **where)[0]), weight_map
    return [], None


def loading_reason(error: Exception) -> str:
    """What is wrong with a checkpoint, in one line, without the advice to trust it."""
    # Where no class could load the weights, transformers hands on the tracebacks as text; the last error counts.
    message = re.split(r"^\w[\w.]*(?:Error|Exception): ", str(error), flags=re.MULTILINE)[-1]
    if "trust_remote_code" in message:
        return "it asks to run code of its own, which is never done. Use a checkpoint of an installed model class."
    if isinstance(error, RecursionError):
        return "one of its JSON files is nested too deeply."
    if isinstance(error, ValueError | OSError | ImportError) and message:
        return one_line(message)
    return one_line(f"it is damaged, or not a FROSTER or CLIP checkpoint ({type(error).__name__}: {message})")
