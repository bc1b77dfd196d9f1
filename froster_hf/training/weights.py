"""Means of weights: of several models, of one over its epochs, and between two checkpoints.

- `average_models`: the mean of N models.
- `WeightAveraging`: the mean of the weights at the ends of epochs (SWA), kept while training. FROSTER and Open-VCLIP
  test the mean of the weights after epochs 2 to the last, TACO that of all and CLIP's own, Open-MeDe one in which the
  epochs count by a bell curve. As a running mean it needs no checkpoint but the newest, which carries it over a
  restart.
- `interpolate`: w = (1 - ratio) * w_a + ratio * w_b, for every tensor. Between CLIP and a model fine-tuned from it,
  this gives back generality at no cost in use (WiSE-FT: Wortsman et al., CVPR 2022; patching: Ilharco et al., NeurIPS
  2022; Open-VCLIP: Weng et al., ICML 2023). Folders in, a folder out.
"""

import json
import math
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn
from transformers import Trainer
from transformers.trainer_utils import has_length
from transformers.utils import (
    CONFIG_NAME,
    IMAGE_PROCESSOR_NAME,
    PROCESSOR_NAME,
    SAFE_WEIGHTS_INDEX_NAME,
    SAFE_WEIGHTS_NAME,
)

from ..checkpoint_files import (
    check_checkpoint_files,
    check_headers,
    own_names,
    read_configuration,
    refuse_other_shards,
    shard_names,
)
from ..checkpoint_loading import LEFT_OUT, loading_reason, refuse_adapter, refuse_other_tensors, refuse_oversized
from ..foreign_code import drop_foreign_code, own_modules
from ..modeling.configuration_froster import FrosterConfig, without_callers_fields
from ..modeling.modeling_froster import FrosterForVideoClassification
from ..modeling.tables_froster import BACKBONES
from ..printing import get_logger, listing, one_line, printable
from ..processing.calibrations import forget_calibration
from ..processing.processing_froster import FrosterProcessor
from ..processing.same_inputs import refuse_other_inputs
from ..processing.text_files import parse_json, read_json
from ..processing.tokenizer_files import KEPT_FILES, PROCESSOR_FILES
from ..quantization_files import check_quantization, refuse_other_quantizers
from ..weights_license import CARD_FILE, one_license
from ..whole_files import full_disk_named, new_folder, write_errors
from .checkpointing import AVERAGE_NAME, CheckpointedCallback, ResumeError
from .run_record import license_of_base
from .stored_states import check_form
from .student import forget_labels
from .whole_folders import replaced_folder

logger = get_logger(__name__)

Model = TypeVar("Model", bound=nn.Module)
# The running mean, in a checkpoint.
STATE_NAME = "weight_average.safetensors"
# safetensors' names of the types that can be blended.
DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
# What the shapes of weights do not show.
TOWER_FIELDS = ("num_attention_heads", "hidden_act", "layer_norm_eps")
# Fields of the temporal module and pooling that the shapes of weights do show.
SHOWN_BY_SHAPES = ("num_frames", "adapter_size", "pooling_num_layers")


@torch.no_grad()
def average_models(models: Iterable[Model]) -> Model:
    """The first model, in place, with the mean of all models' weights.

    Without a label list: its embeddings would be those of no text tower, or of several lists.

    Args:
        models: all of one architecture; an iterable may load them one by one, since two at a time are held.

    Raises:
        ValueError: no model, weights that differ in name or shape or are not finite, models of FROSTER or of a
            backbone that are of other architectures, or adapters that are not merged.
    """
    first: Model | None = None
    sums: dict[str, torch.Tensor] = {}
    count = 0
    for count, model in enumerate(models, start=1):
        weights = model.state_dict()
        if first is None:
            first = model
            # Copies, of weights in double precision too.
            sums = {
                name: tensor.to(torch.float64, copy=True)
                for name, tensor in weights.items()
                if tensor.is_floating_point()
            }
            continue
        _check_alike(first.state_dict(), weights, count)
        if _has_architecture(first) and _has_architecture(model):
            names = _shown(first, 1), _shown(model, count)
            _check_architectures(first.config, model.config, names=names, has_modules=True)
        for name, total in sums.items():
            total.add_(weights[name].to(total))
    if first is None:
        raise ValueError("The mean of no models was asked for; give at least one.")
    averaged = first.state_dict()
    # Finite in double precision may be infinite in that of the model.
    means = {name: (total / count).to(averaged[name].dtype) for name, total in sums.items()}
    if bad := [name for name, mean in means.items() if not mean.isfinite().all()]:
        raise ValueError(
            f"{len(bad)} weights of the models are not finite ({listing(bad, limit=3)}). Leave that model out."
        )
    for name, mean in means.items():
        averaged[name].copy_(mean)
    if count > 1 and isinstance(first, FrosterForVideoClassification):
        forget_labels(first)
    return first


def _has_architecture(model: Any) -> bool:
    """Whether it is a model of FROSTER or of a backbone, whose configuration says what it computes."""
    return getattr(getattr(model, "config", None), "model_type", None) in ("froster", *BACKBONES)


def _shown(model: Any, number: int) -> str:
    name = model.config._name_or_path
    return f"Model {number}" + (f" ({printable(str(name), limit=200)})" if name else "")


def _refuse_adapters(names: Iterable[str]) -> None:
    # PEFT's name for what an adapter stands around.
    if any(".base_layer." in name for name in names):
        raise ValueError(
            "The models carry adapters of PEFT. The mean of the factors of their updates is not that of the updates: "
            "merge each adapter into its model with `PeftModel.merge_and_unload`, save that, and average those."
        )


def _check_alike(first: dict[str, torch.Tensor], other: dict[str, torch.Tensor], number: int) -> None:
    _refuse_adapters((*first, *other))
    if different := sorted(set(first) ^ set(other)):
        raise ValueError(f"Model {number} has other weights than the first, such as {different[:3]}.")
    for name, tensor in first.items():
        if tensor.shape != other[name].shape:
            raise ValueError(
                f"{printable(name)}: shape {tuple(tensor.shape)} in the first, {tuple(other[name].shape)} in model "
                f"{number}."
            )


class WeightAveraging(CheckpointedCallback):
    """Averages the trained weights over the ends of epochs, in double precision on the CPU.

    Args:
        first_epoch: counted from 1; the first epoch whose final weights are part of the mean. The published one is 2.
            0 stands for the weights before the training.
        last_epoch: the last of them. `None` goes on to the end.
        weighting: what an epoch counts; by default all count the same. See [`gaussian_weighting`].

    Raises:
        ValueError: an empty range of epochs; later, epochs that all count nothing, adapters, or parameters that FSDP
            or DeepSpeed split over processes.
    """

    def __init__(
        self,
        first_epoch: int = 2,
        *,
        last_epoch: int | None = None,
        weighting: Callable[[int], float] | None = None,
    ):
        if first_epoch < 0 or (last_epoch is not None and last_epoch < first_epoch):
            raise ValueError(
                f"Epochs {first_epoch} to {last_epoch or 'the last'} cannot be averaged; they are counted from "
                "1, and 0 stands for the weights before the training."
            )
        self.first_epoch, self.last_epoch = first_epoch, last_epoch
        self.weighting = weighting or (lambda epoch: 1.0)
        # Of the mean so far.
        self.epochs: list[int] = []
        self.mean: dict[str, torch.Tensor] = {}

    @contextmanager
    def applied_to(self, model: nn.Module) -> Iterator[None]:
        """Give `model` the mean for the time of a `with` block, for example to evaluate it or save it.

        Raises:
            ValueError: no epoch of the range has ended.
        """
        if not self.epochs:
            raise ValueError(
                f"There are no weights to average: none of the epochs {self.first_epoch} to "
                f"{self.last_epoch or 'the last'} has ended."
            )
        own = {name: parameter for name, parameter in model.named_parameters() if name in self.mean}
        trained = {name: parameter.detach().clone() for name, parameter in own.items()}
        try:
            _copy_into(own, self.mean)
            yield
        finally:
            _copy_into(own, trained)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Begin again, unless the run is resumed."""
        if args.fsdp or args.deepspeed:
            raise ValueError("Weights that FSDP or DeepSpeed split over processes cannot be averaged while training.")
        _refuse_adapters(name for name, _ in kwargs["model"].named_parameters())
        last = min(self.last_epoch or state.max_steps, state.num_train_epochs, state.max_steps)
        epochs = range(self.first_epoch, last + 1)
        if epochs and not any(map(self.weighting, epochs)):
            raise ValueError(
                f"Of the epochs {self.first_epoch} to {last} that would be averaged, the weighting counts none. "
                "Move its center (`weight_average_center`) towards them, or widen it (`weight_average_width`)."
            )
        if state.global_step == 0:
            self.epochs, self.mean = [], {}
            if self.first_epoch == 0:
                self._add(kwargs["model"], 0)
            return
        # Those of the range, without those that count nothing; an epoch has a step at least.
        had = min(int(state.epoch or 0), state.global_step)
        expected = list(filter(self.weighting, range(self.first_epoch, min(had, self.last_epoch or had) + 1)))
        # Epochs of a stream end between the numbers at which `on_step_end` takes the weights in.
        possible = expected if has_length(kwargs["train_dataloader"]) else [e for e in expected if e in self.epochs]
        if self.epochs != possible:
            raise ResumeError(
                f"The {STATE_NAME} of the checkpoint of step {state.global_step} is not the mean of the epochs that "
                f"the training has had, which are {len(expected)} of those from {self.first_epoch} to {had}. Resume "
                "from another checkpoint, or begin a new run."
            )

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Take in the weights, where this was the last step of an epoch of the range."""
        # Not at `on_epoch_end`: a checkpoint of an epoch's last step is written before that, and a run resumed from it
        # begins with the next epoch.
        epoch = int(state.epoch or 0)
        if epoch == state.epoch and self.first_epoch <= epoch <= (self.last_epoch or epoch):
            self._add(kwargs["model"], epoch)

    def save_state(self, checkpoint: Path) -> None:
        """The mean as it is kept, so that it is restored exactly."""
        save_file(self.mean, checkpoint / STATE_NAME, metadata={"epochs": json.dumps(self.epochs)})

    def load_state(self, checkpoint: Path, model: nn.Module) -> None:
        """Go on with the mean of a checkpoint."""
        path = checkpoint / STATE_NAME
        if not path.is_file():
            raise ResumeError(
                f"{checkpoint} was written without weight averaging, so its mean would lack epochs. Resume without "
                "`WeightAveraging`, and average the weights of the checkpoints afterwards."
            )
        check_headers([path])
        with safe_open(path, framework="pt") as file:
            epochs = parse_json((file.metadata() or {}).get("epochs", "null"), source=STATE_NAME)
            mean = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        # Whether they are those that the training has had is seen in `on_train_begin`, which knows the data.
        if not isinstance(epochs, list) or any(type(epoch) is not int for epoch in epochs):
            raise ValueError(f"{STATE_NAME} does not say which epochs it is the mean of")
        trained = {name: tensor for name, tensor in model.named_parameters() if tensor.requires_grad}
        own = {name: tensor.detach().to("cpu", torch.float64) for name, tensor in trained.items()} if epochs else {}
        check_form(mean, own, where=STATE_NAME)
        for name, tensor in mean.items():
            # Finite in double precision may be infinite in that of the parameter.
            if not tensor.to(trained[name].dtype).isfinite().all():
                raise ValueError(f"{STATE_NAME}[{name!r}] has values that {trained[name].dtype} does not hold")
        self.epochs, self.mean = epochs, mean

    @torch.no_grad()
    def _add(self, model: nn.Module, epoch: int) -> None:
        own = self.weighting(epoch)
        if own == 0:  # so far from the center that it does not count at all
            return
        self.epochs.append(epoch)
        total = math.fsum(map(self.weighting, self.epochs))
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            weights = parameter.detach().to("cpu", torch.float64)
            if name in self.mean:
                self.mean[name] += (weights - self.mean[name]) * own / total
            else:
                self.mean[name] = weights.clone()


def gaussian_weighting(center: float, width: float) -> Callable[[int], float]:
    """Weights of the epochs of [`WeightAveraging`] by a bell curve (Open-MeDe); their sum is divided out there.

    Args:
        center: mu, in epochs from 1.
        width: sigma, in epochs.
    """

    def weight(epoch: int) -> float:
        distance = (epoch - center) / width
        # A product becomes infinite where a power would raise.
        return math.exp(-distance * distance / 2)

    return weight


def save_weight_averages(trainer: Trainer) -> None:
    """Save the mean of every `WeightAveraging` of a Trainer that has trained, as `save_model()` saves a model."""
    averages = [callback for callback in trainer.callback_handler.callbacks if isinstance(callback, WeightAveraging)]
    # That of the trial, in a search.
    place = Path(trainer._get_output_dir(getattr(trainer, "_trial", None))) / AVERAGE_NAME
    for average in averages if trainer.args.should_save else ():
        if not average.epochs:
            logger.warning("No epoch from %d on has ended: there are no averaged weights.", average.first_epoch)
            continue
        with (
            average.applied_to(trainer.accelerator.unwrap_model(trainer.model)),
            replaced_folder(place) as folder,
        ):
            trainer.save_model(str(folder), _internal_call=True)


@torch.no_grad()
def _copy_into(parameters: dict[str, nn.Parameter], values: dict[str, torch.Tensor]) -> None:
    for name, parameter in parameters.items():
        parameter.copy_(values[name])


class CheckpointMismatchError(ValueError):
    """Two checkpoints with nothing between them; the message names the first differences."""


def interpolate(
    checkpoint_a: str | os.PathLike, checkpoint_b: str | os.PathLike, ratio: float, *, output_dir: str | os.PathLike
) -> Path:
    """Write the checkpoint that lies between two others.

    Both are folders of transformers with safetensors files, CLIP's or FROSTER's, as trained or exported. The result
    has the configuration, processor, key names and precision of the FROSTER one; of two alike, of `checkpoint_b`. A
    stored label list is left out: its embeddings come from the text tower as it was; so is a calibration, all code
    that is not this package's, what names such code or kernels, and chat templates. A license that both have, or
    FROSTER's of one of them, stands on its card.

    Args:
        checkpoint_a: the result at ratio 0; for example the CLIP that training started from.
        checkpoint_b: the result at ratio 1; for example what was trained.
        ratio: from 0 to 1.
        output_dir: a folder that does not exist yet, or is empty.

    Returns:
        `output_dir`.

    Raises:
        CheckpointMismatchError: other architectures, tensors or shapes.
        ValueError: processors that make other pixels or tokens, where both checkpoints have one; a ratio outside of
            [0, 1], an output folder that is a link or in use, weights that cannot be read or are not finite, a
            quantization that is not loaded either, or links in a checkpoint that lead out of it.
        OSError: `output_dir` cannot be written.

    Example:

    ```python
    >>> interpolate("clip-vit-base-patch16", "run/weight-average", 0.5, output_dir="wise-ft")  # doctest: +SKIP
    ```"""
    if not 0 <= ratio <= 1:
        raise ValueError(f"`ratio` is {ratio}; it goes from 0, the first checkpoint, to 1, the second.")
    a, b = WeightsFolder(checkpoint_a), WeightsFolder(checkpoint_b)
    has_modules = a.rank == b.rank == 2
    _check_architectures(a.config, b.config, names=(str(a.folder), str(b.folder)), has_modules=has_modules)
    _check_tensors(a, b)
    one, other = a.processor(), b.processor()
    if one is not None and other is not None:
        refuse_other_inputs(one, other, names=(str(a.folder), str(b.folder)))
    licenses = {license_of_base(str(source.folder)) for source in (a, b)}
    pattern = a if a.rank > b.rank else b
    with new_folder(output_dir) as folder:
        tensors = {pattern.stored_names[name]: _blend(name, a, b, ratio, pattern) for name in pattern.layout}
        with write_errors(output_dir):
            save_file(tensors, folder / SAFE_WEIGHTS_NAME, metadata={"format": "pt"})
        with full_disk_named(output_dir):
            _copy_companions(pattern, folder)
            _write_card(folder, licenses, ratio)
    return Path(output_dir)


def _write_card(folder: Path, licenses: set[str | None], ratio: float) -> None:
    """A card with the license of weights of these licenses, where it is known."""
    if (license := one_license(list(licenses))) is not None:
        text = f"---\nlicense: {license}\n---\n\nWeights between those of two checkpoints, at {ratio:g} of the way.\n"
        (folder / CARD_FILE).write_text(text, encoding="utf-8")


class WeightsFolder:
    """A folder of weights of FROSTER or of a backbone such as CLIP, under FrosterModel's names; read tensor by tensor.

    Args:
        folder: with `config.json`, and `model.safetensors` or an index and its shards.

    Raises:
        ValueError: it is not such a folder.
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder)
        check_checkpoint_files(self.folder)
        # A name that is not a folder's would be looked for on the Hub.
        if self.folder.is_dir():
            refuse_adapter(os.fspath(self.folder))
        if not (self.folder / CONFIG_NAME).is_file():
            raise ValueError(f"{self.folder} is not the folder of a checkpoint: it has no {CONFIG_NAME}.")
        self.raw_config = dict(read_configuration(self.folder / CONFIG_NAME))
        model_type = self.raw_config.get("model_type")
        if model_type != "froster" and (not isinstance(model_type, str) or model_type not in BACKBONES):
            raise ValueError(
                f"{self.folder} holds a model of type {printable(repr(model_type))}; "
                f"{', '.join(map(repr, BACKBONES))} or 'froster' is needed."
            )
        try:
            refuse_other_quantizers(self.raw_config, where="the checkpoint")
            check_quantization(self.raw_config, where="the checkpoint")
            self.config = FrosterConfig.from_fields(self.raw_config)
            _end_token_id(self.config)  # raises where its text tower has none that is known
        except Exception as error:  # what a configuration with values of any type makes transformers raise
            raise ValueError(f"{self.folder / CONFIG_NAME} cannot be used: {one_line(str(error))}") from error
        # What loading leaves out.
        self.raw_config = without_callers_fields(self.raw_config)
        # How much more than CLIP it is.
        self.rank = 0
        if isinstance(self.config, FrosterConfig):
            self.rank = 1 if self.config.temporal_entries[0].implementation is None else 2
        self.layout: dict[str, tuple[str, list[int]]] = {}
        self.stored_names: dict[str, str] = {}
        self._files: dict[str, Path] = {}
        files = self._weight_files()
        self._read_layout(files)
        try:
            described = refuse_oversized(self.config, files)
        except Exception as error:
            raise ValueError(f"{self.folder / CONFIG_NAME} cannot be used: {one_line(str(error))}") from error
        try:
            refuse_other_tensors(described, {name: shape for name, (_, shape) in self.layout.items()})
        except ValueError as error:
            raise ValueError(f"{self.folder} cannot be used: {error}") from error

    def processor(self) -> FrosterProcessor | None:
        """What makes the pixels and tokens that the weights are for; `None` where there is none, or a part only.

        Raises:
            ValueError: it cannot be loaded.
        """
        is_froster = isinstance(self.config, FrosterConfig)
        settings = (PROCESSOR_NAME,) if is_froster else (PROCESSOR_NAME, IMAGE_PROCESSOR_NAME)
        present = {path.name for path in self.folder.iterdir()}
        if present.isdisjoint(settings) or "tokenizer_config.json" not in present:
            return None
        load: Any = FrosterProcessor.from_pretrained if is_froster else FrosterProcessor.from_dual_encoder
        try:
            processor: FrosterProcessor = load(self.folder)
        except Exception as error:  # what files of any content make transformers raise
            raise ValueError(f"The processor of {self.folder} cannot be loaded: {loading_reason(error)}") from error
        return processor

    def tensor(self, name: str) -> torch.Tensor:
        """One tensor by FrosterModel's name."""
        with safe_open(self._files[name], framework="pt") as file:
            return file.get_tensor(self.stored_names[name])

    def _weight_files(self) -> list[Path]:
        index = self.folder / SAFE_WEIGHTS_INDEX_NAME
        names, weight_map = [SAFE_WEIGHTS_NAME], None
        if index.is_file() and not (self.folder / SAFE_WEIGHTS_NAME).is_file():
            weight_map = shard_names(index)
            names = sorted(set(weight_map.values()))
        present = {path.name for path in self.folder.iterdir() if path.is_file()}
        for name in names:
            if name not in present:
                raise ValueError(
                    f"{self.folder} has no {printable(name)}. Weights are read from safetensors files; others become "
                    "such with `from_pretrained(...)` and `save_pretrained(folder)`."
                )
        files = [self.folder / name for name in names]
        if weight_map is not None:
            refuse_other_shards(check_headers(files), weight_map)
        return files

    def _read_layout(self, files: Sequence[Path]) -> None:
        kept: dict[str, tuple[Path, str, list[int]]] = {}
        for path in files:
            try:
                with safe_open(path, framework="pt") as file:
                    for name in file.keys():  # noqa: SIM118 (not a dict)
                        if not LEFT_OUT.search(name):
                            tensor = file.get_slice(name)
                            kept[name] = path, tensor.get_dtype(), tensor.get_shape()
            except SafetensorError as error:
                raise ValueError(f"{path} cannot be read as safetensors: {one_line(str(error))}.") from error
        for path, dtype, _ in kept.values():
            if dtype not in DTYPES:
                raise ValueError(f"{path} holds tensors of type {dtype}, which cannot be blended.")
        self.stored_names = own_names(kept, prefix="froster.", where=self.folder)
        for name, stored in self.stored_names.items():
            self._files[name], dtype, shape = kept[stored]
            self.layout[name] = dtype, shape


def _check_architectures(a: Any, b: Any, *, names: tuple[str, str], has_modules: bool) -> None:
    """Refuse two configurations, of FROSTER or a backbone, whose weights mean something else.

    Args:
        a: of the first.
        b: of the second.
        names: what the error calls them.
        has_modules: whether both have temporal modules that have to be one; not where one is CLIP without.
    """
    differences = []
    for tower in ("text_config", "vision_config"):
        for field in TOWER_FIELDS:
            values = [getattr(getattr(config, tower), field) for config in (a, b)]
            if values[0] != values[1]:
                differences.append(f"{tower}.{field}: {values[0]!r} and {values[1]!r}")
    ends = _end_token_id(a), _end_token_id(b)
    if ends[0] != ends[1]:
        differences.append(f"texts end with token {ends[0]} and {ends[1]}")
    if isinstance(a, FrosterConfig) and isinstance(b, FrosterConfig):
        module, pooling = b.temporal_entries
        fields = ["temporal_pooling", *pooling.fields]
        if has_modules:
            fields += ["temporal_module", *module.fields]
        for field in fields:
            if field in SHOWN_BY_SHAPES:
                continue
            values = [getattr(config, field) for config in (a, b)]
            if values[0] != values[1]:
                differences.append(f"{field}: {values[0]!r} and {values[1]!r}")
    if differences:
        raise CheckpointMismatchError(
            f"{names[0]} and {names[1]} are of different architectures: {'; '.join(differences)}."
        )


def _end_token_id(config: Any) -> int | None:
    if not isinstance(config, FrosterConfig):
        config = FrosterConfig.from_dual_encoder_config(config, temporal_module="none")
    return config.end_token_id


def _check_tensors(a: WeightsFolder, b: WeightsFolder) -> None:
    for one, other in ((a, b), (b, a)):
        alone = sorted(one.layout.keys() - other.layout.keys())
        if alone:
            raise CheckpointMismatchError(
                f"{one.folder} has {len(alone)} tensors that {other.folder} lacks: {listing(alone, limit=3)}. Only "
                "models with the same parameters can be interpolated; CLIP with temporal modules that add none."
            )
    shapes = [
        f"{name} {a.layout[name][1]} and {b.layout[name][1]}"
        for name in sorted(a.layout)
        if a.layout[name][1] != b.layout[name][1]
    ]
    if shapes:
        raise CheckpointMismatchError(f"The shapes in {a.folder} and {b.folder} differ: {listing(shapes, limit=3)}.")


def _blend(name: str, a: WeightsFolder, b: WeightsFolder, ratio: float, pattern: WeightsFolder) -> torch.Tensor:
    """One tensor of the result in the precision of `pattern`; exactly a's or b's at the ends."""
    tensors = [folder.tensor(name) for folder in (a, b)]
    for tensor, folder in zip(tensors, (a, b)):
        if not tensor.isfinite().all():
            raise ValueError(f"{printable(name)} in {folder.folder} has values that are not finite.")
    dtype = torch.float64 if torch.float64 in (tensors[0].dtype, tensors[1].dtype) else torch.float32
    own_dtype = DTYPES[pattern.layout[name][0]]
    blended = torch.lerp(tensors[0].to(dtype), tensors[1].to(dtype), ratio).to(own_dtype)
    if not blended.isfinite().all():
        raise ValueError(
            f"{printable(name)} has values between the two checkpoints that {own_dtype}, its type, does not hold."
        )
    return blended.contiguous()


def _copy_companions(pattern: WeightsFolder, folder: Path) -> None:
    """Configuration, processor, tokenizer and remote code."""
    config = dict(pattern.raw_config)
    if config.get("id2label") and config["model_type"] == "froster":
        logger.warning("The label list of %s is left out of the result; store one with `set_labels`.", pattern.folder)
        config |= {"id2label": {}, "label2id": {}, "label_weights": None}
    (folder / CONFIG_NAME).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    # Asked before they are copied: many may be links to one that is large.
    own = own_modules(pattern.folder)
    for path in sorted(filter(Path.is_file, pattern.folder.iterdir())):
        # By name: other programs run code that files of theirs name, such as modules.json of Sentence Transformers.
        if path.name != CONFIG_NAME and (path.name in KEPT_FILES or (path.suffix == ".py" and path.stem in own)):
            shutil.copyfile(path, folder / path.name)
        elif path.suffix == ".py":
            logger.warning("Left out of the result: %s: not code of this version.", printable(path.name))
    for path in filter(Path.is_file, (folder / name for name in PROCESSOR_FILES)):
        options = read_json(path, finite=False)
        if isinstance(options, dict) and (options.get("calibration") or "chat_template" in options):
            forget_calibration(options, of="the weights between the two")
            options.pop("chat_template", None)
            path.write_text(json.dumps(options, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    for dropped in drop_foreign_code(folder):
        logger.warning("Left out of the result: %s.", dropped)
