"""States of a training in checkpoints that somebody else may have altered: read, and compared with the run's own.

torch's and transformers' loaders take what a checkpoint holds: moments of another shape than their weight (which fused
kernels read and write behind), lists within lists, tensors that are larger than their file, hyperparameters of another
run. Here the pickles are read by an unpickler that builds nothing but tensors and plain values, and what it built has
to have the form that this run itself would have written, before anything is handed on.
"""

import io
import math
import pickle
import random
import struct
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau
from transformers.optimization import GreedyLR
from transformers.trainer import OPTIMIZER_NAME, SCALER_NAME, SCHEDULER_NAME, TRAINER_STATE_NAME
from transformers.trainer_callback import ExportableState

from ..conversion.pickle_worker import TensorUnpickler, check_members, rebuild_tensor
from ..printing import printable

# A pickle's own bytes, without those of its tensors: three tensors of a parameter take 300.
PICKLE_BYTES = 1 << 16
PICKLE_BYTES_OF_A_PARAMETER = 1 << 11
# Entries of a list in the state of a scheduler that keeps some.
MAX_ENTRIES = 10_000
# Above the rate that an optimizer began with, no schedule rises further.
LARGEST_RISE = 100
# Of a scheduler's state: what says how far the training is.
COUNTS = ("last_epoch", "_step_count")
# What torch's and transformers' schedules that are not functions of the step change; the rest stays as it was given.
MOVED = (
    *COUNTS,
    *("best", "num_bad_epochs", "num_good_epochs", "cooldown_counter", "warmup_counter", "reset_start"),
    *("T_cur", "T_i", "_last_lr", "_is_initial", "_get_lr_called_within_step", "_schedulers", "_streaming_avg"),
)
# Sums of squares, of which roots are taken; the names in torch's and transformers' optimizers.
NEVER_NEGATIVE = (
    *("exp_avg_sq", "max_exp_avg_sq", "exp_avg_sq_row", "exp_avg_sq_col", "square_avg", "sum", "exp_inf"),
    *("row_var", "col_var", "variance", "RMS"),
)
# Packages whose optimizers keep the fields of their groups as they were given; others count in them.
PLAIN_OPTIMIZERS = ("torch", "transformers", "froster_hf")
# Fields that schedules other than functions of the step may move besides the rate, each in [0, 1].
CYCLED = ("betas", "momentum")
MERSENNE_WORDS = 624
# Binary exponents of the scale of half precision: below the smallest number of float16, gradients become 0.
SCALE_EXPONENTS = (-24, 63)
# In bytes of torch's state, which holds each of them in 8.
TORCH_WORDS_BEGIN = 24


class StateUnpickler(pickle._Unpickler):
    """Builds what states of a training consist of, from the instructions that `torch.save` writes.

    In Python, since the one in C takes memory for whatever place in its table a file names.

    Args:
        stream: the pickle.
        archive: the file, with the tensors' bytes.
        root: folder of all its members.
    """

    instructions = (
        *(pickle.PROTO, pickle.STOP, pickle.MARK, pickle.GLOBAL, pickle.REDUCE, pickle.BUILD, pickle.BINPERSID),
        *(pickle.BINPUT, pickle.LONG_BINPUT, pickle.BINGET, pickle.LONG_BINGET, pickle.NONE, pickle.NEWTRUE),
        *(pickle.NEWFALSE, pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.LONG1, pickle.BINFLOAT),
        *(pickle.BINUNICODE, pickle.EMPTY_TUPLE, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3),
        *(pickle.EMPTY_LIST, pickle.APPEND, pickle.APPENDS, pickle.EMPTY_DICT, pickle.SETITEM, pickle.SETITEMS),
    )
    dispatch: ClassVar[dict[int, Any]] = {code[0]: pickle._Unpickler.dispatch[code[0]] for code in instructions}

    def __init__(self, stream: Any, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(stream)
        self.archive, self.root = archive, root
        self.loaded: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Stand-ins for the names in states of a training."""
        if module == "torch" and name in TensorUnpickler.storages:
            return TensorUnpickler.storages[name]
        found = {
            "torch._utils._rebuild_tensor_v2": rebuild_tensor,
            "collections.OrderedDict": _no_hooks,
            "numpy.ndarray": "ndarray",
            "numpy.dtype": _StoredArray,
            "numpy._core.multiarray._reconstruct": _StoredArray,
            "numpy.core.multiarray._reconstruct": _StoredArray,
            "_codecs.encode": _latin1,
        }.get(f"{module}.{name}")
        if found is None:
            raise ValueError(f"it holds more than tensors and numbers ({module}.{name})")
        return found

    def persistent_load(self, pid: Any) -> Tensor:
        """One storage, as a flat tensor of its own memory."""
        kind, dtype, key, _device, numel = pid if isinstance(pid, tuple) else (None,) * 5
        if kind != "storage" or not isinstance(dtype, torch.dtype) or not isinstance(key, str):
            raise ValueError("it refers to something else than a storage")
        if key not in self.loaded:
            member = self.archive.getinfo(f"{self.root}/data/{key}")
            if type(numel) is not int or member.file_size != numel * dtype.itemsize:
                raise ValueError(f"storage {key} has {member.file_size} bytes, and another size is claimed")
            flat = torch.empty(numel, dtype=dtype)
            if numel:
                with self.archive.open(member) as stream:
                    cast(io.BufferedIOBase, stream).readinto(flat.view(torch.uint8).numpy().data)
            self.loaded[key] = flat
        if self.loaded[key].dtype != dtype:
            raise ValueError(f"storage {key} is of two types")
        return self.loaded[key]

    def load_build(self) -> None:
        """Only of arrays: tensors and dictionaries are whole without."""
        state = self.stack.pop()  # type: ignore[attr-defined]
        if not isinstance(self.stack[-1], _StoredArray):  # type: ignore[attr-defined]
            raise ValueError("it changes what it has built")
        self.stack[-1].state = state  # type: ignore[attr-defined]

    def load_reduce(self) -> None:
        """Arguments are a tuple: a tensor of many numbers would become as many arguments."""
        if not isinstance(self.stack[-1], tuple):  # type: ignore[attr-defined]
            raise ValueError("it calls with something else than arguments")
        super().load_reduce()  # type: ignore[misc]

    def load_setitem(self) -> None:
        """As the following."""
        value, key = self.stack.pop(), self.stack.pop()  # type: ignore[attr-defined]
        self._set_items([key, value])

    def load_setitems(self) -> None:
        """Names and small numbers are keys; of others, many may have one hash."""
        self._set_items(self.pop_mark())  # type: ignore[attr-defined]

    def _set_items(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], dict):  # type: ignore[attr-defined]
            # A tensor may be far larger than its bytes, and would be written to.
            raise ValueError("it changes what it has built")
        for key, value in zip(items[::2], items[1::2]):
            if type(key) is not str and not (type(key) is int and abs(key) < 1 << 31):
                raise ValueError(f"a key of it is a {type(key).__name__}")
            self.stack[-1][key] = value  # type: ignore[attr-defined]

    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.REDUCE[0]] = load_reduce
    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.SETITEMS[0]] = load_setitems


class _StoredArray:
    """What numpy pickles of an array or of its type, kept and not built."""

    def __init__(self, *given: Any) -> None:
        self.given: tuple[Any, ...] = given
        self.state: Any = ()

    def words(self) -> np.ndarray:
        """The array: unsigned, of 32 bits, as the state of numpy's Mersenne Twister is."""
        _version, shape, dtype, _fortran, content = self.state
        if dtype.given[0] != "u4" or dtype.state[1] != "<" or shape != (len(content) // 4,):
            raise ValueError("its array is not of unsigned numbers of 32 bits")
        return np.frombuffer(content, dtype="<u4").astype(np.uint32)


def _no_hooks() -> None:
    """Tensors are stored with a mapping of hooks, which is empty."""


def _latin1(text: str, encoding: str) -> bytes:
    """How bytes are written in pickles of this protocol."""
    if encoding != "latin1" or len(text) > 4 * MERSENNE_WORDS:
        raise ValueError("it encodes something else than a random state")
    return text.encode("latin1")


def read_state(path: Path, *, num_parameters: int = 0) -> Any:
    """What a file of `torch.save` holds: tensors, on the CPU and in memory of their own, in plain containers.

    Memory and time are bounded by the size of the file.

    Args:
        path: the file.
        num_parameters: parameters that it has tensors of.

    Raises:
        ValueError: it is damaged, or holds anything else.
    """
    limit = PICKLE_BYTES + num_parameters * PICKLE_BYTES_OF_A_PARAMETER
    try:
        with zipfile.ZipFile(path) as archive:
            root, _is_torchscript = check_members(archive, path.stat().st_size)
            member = archive.getinfo(f"{root}/data.pkl")
            if member.file_size > limit:
                raise ValueError(f"it describes its tensors in {member.file_size} bytes, more than {limit}")
            with archive.open(member) as stream:
                return StateUnpickler(stream, archive, root).load()
    except OSError:
        raise
    # Whatever a forged pickle makes of the stack of its reader.
    except Exception as error:
        reason = str(error) if isinstance(error, ValueError | zipfile.BadZipFile) else repr(error)
        raise ValueError(f"{path.name} is not what a training writes: {printable(reason, limit=200)}") from error


def check_form(stored: Any, own: Any, *, where: str, dtypes: Sequence[torch.dtype] = ()) -> None:
    """Refuse what has not the form of a value of this run: types, names and lengths of containers, shapes of tensors.

    Numbers have to be finite, or those of this run. The walk is along `own`, whatever `stored` contains.

    Args:
        stored: the value in a checkpoint.
        own: the value in this run.
        where: names it in the message.
        dtypes: types of tensors besides that of `own`.

    Raises:
        ValueError: names the first difference.
    """
    if isinstance(own, Tensor):
        _check_tensor(stored, own, where=where, dtypes=(own.dtype, *dtypes))
    elif isinstance(own, Mapping):
        if type(stored) is not dict or stored.keys() != own.keys():
            raise ValueError(f"{where} is {_shown(stored)}; {_shown(own)} is needed")
        for name, value in own.items():
            check_form(stored[name], value, where=f"{where}[{name!r}]", dtypes=dtypes)
    elif isinstance(own, list | tuple):
        if type(stored) is not type(own) or len(stored) != len(own):
            raise ValueError(f"{where} is {_shown(stored)}; {_shown(own)} is needed")
        for position, (one, value) in enumerate(zip(stored, own)):
            check_form(one, value, where=f"{where}[{position}]", dtypes=dtypes)
    elif type(own) in (int, float):
        if not _is_finite(stored) and (type(stored) is not float or stored != own):
            raise ValueError(f"{where} is {_shown(stored)}; a finite number is needed")
        if type(own) is int and type(stored) is not int:
            raise ValueError(f"{where} is {_shown(stored)}; a whole number is needed")
    elif type(stored) is not type(own) or (isinstance(own, str) and stored != own):
        raise ValueError(f"{where} is {_shown(stored)}, and not as {_shown(own)}, this run's")


def _check_tensor(stored: Any, own: Tensor, *, where: str, dtypes: Sequence[torch.dtype]) -> None:
    if not isinstance(stored, Tensor) or stored.shape != own.shape or stored.dtype not in dtypes:
        raise ValueError(f"{where} is {_shown(stored)}; {_shown(own)} is needed")
    step = 1
    for stride, size in sorted(zip(stored.stride(), stored.shape)):
        if size > 1 and stride != step:
            raise ValueError(f"{where} is a tensor whose elements lie over each other, or apart")
        step *= size
    if stored.is_floating_point() and not stored.isfinite().all():
        raise ValueError(f"{where} has values that are not finite")


def _check_plain(stored: Any, *, where: str, depth: int = 4) -> int:
    """Refuse other than texts and numbers, in containers of a few; returns how many."""
    if depth == 0:
        raise ValueError(f"{where} is nested deeply")
    if type(stored) in (list, tuple, dict):
        values = stored.values() if isinstance(stored, dict) else stored
        count = 0
        for value in values:
            count += 1 + _check_plain(value, where=where, depth=depth - 1)
            if count > MAX_ENTRIES:
                raise ValueError(f"{where} has more than {MAX_ENTRIES} entries")
        return count
    # Infinite is the best metric of all before the first.
    is_number = _is_finite(stored) or (type(stored) is float and math.isinf(stored))
    if not is_number and type(stored) not in (bool, str, type(None)):
        raise ValueError(f"{where} holds {_shown(stored)}; plain numbers are needed")
    return 0


def _is_finite(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 2.0**63


def _shown(value: Any) -> str:
    """A value in a message; of containers and tensors what they are."""
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)} of {str(value.dtype).removeprefix('torch.')}"
    if isinstance(value, Mapping):
        names = ", ".join(str(name)[:50] for name in list(value)[:12])
        return f"a dict of {len(value)} ({printable(names, limit=200)})"
    if isinstance(value, list | tuple):
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 2**63:
        return "a number of many digits"
    return printable(repr(value), limit=100)


def check_scheduler(stored: Any, scheduler: Any, *, max_steps: int) -> list[float] | None:
    """Refuse a state that is not one of this run's scheduler.

    Args:
        stored: as the file says.
        scheduler: that of this run, without wrappers.
        max_steps: how often it can have been stepped.

    Returns:
        The learning rate of every group at the stored step, where it is a function of the step.

    Raises:
        ValueError: names the field.
    """
    own = scheduler.state_dict()
    if type(stored) is not dict:
        raise ValueError(f"{SCHEDULER_NAME} is {_shown(stored)}; {_shown(own)} is needed")
    for name in COUNTS:
        count = stored.get(name, 0)
        if type(count) is not int or not 0 <= count <= max_steps + 1:
            raise ValueError(f"`{name}` of {SCHEDULER_NAME} is {_shown(count)}, after at most {max_steps} steps")
    if isinstance(scheduler, LambdaLR):
        check_form(stored, own, where=SCHEDULER_NAME)
        # As `LambdaLR.get_lr`.
        rates = [base * factor(stored["last_epoch"]) for base, factor in zip(scheduler.base_lrs, scheduler.lr_lambdas)]
        for name, values in (("base_lrs", scheduler.base_lrs), ("_last_lr", rates)):
            if not all(math.isclose(one, value, rel_tol=1e-6) for one, value in zip(stored[name], values)):
                raise ValueError(f"`{name}` of {SCHEDULER_NAME} is {stored[name]}; this run's is {values}")
        return [float(rate) for rate in rates]
    # Averages and rates that appear with the first step.
    if unknown := stored.keys() - own.keys() - {"_last_lr", "_streaming_avg"}:
        raise ValueError(f"{SCHEDULER_NAME} has {_shown(dict.fromkeys(unknown))}, which this run's scheduler has not")
    _check_plain(stored, where=SCHEDULER_NAME)
    average = stored.get("_streaming_avg")
    if average is not None and not _is_average(average, getattr(scheduler, "window_size", None)):
        raise ValueError(f"`_streaming_avg` of {SCHEDULER_NAME} is {_shown(average)}, and not as this run's")
    is_plain = type(scheduler).__module__.partition(".")[0] in PLAIN_OPTIMIZERS
    for name in own.keys() & stored.keys():
        is_same_kind = isinstance(stored[name], int | float) == isinstance(own[name], int | float)
        if not is_same_kind or isinstance(stored[name], list) != isinstance(own[name], list):
            raise ValueError(f"`{name}` of {SCHEDULER_NAME} is {_shown(stored[name])}, not as {_shown(own[name])}")
        if is_plain and name not in MOVED and stored[name] != own[name]:
            raise ValueError(f"`{name}` of {SCHEDULER_NAME} is {_shown(stored[name])}; this run's is {own[name]}")
        if name == "_last_lr":
            check_form(stored[name], own[name], where=f"`{name}` of {SCHEDULER_NAME}")
    return None


def check_rates_by_metric(stored: Mapping[str, Any], scheduler: Any) -> list[float] | None:
    """Refuse rates that a schedule which follows a metric cannot have come to from this run's first ones.

    Args:
        stored: as the file says, and `check_scheduler` has looked at.
        scheduler: that of this run, without wrappers and before its first step.

    Returns:
        The learning rate of every group; `None` where the schedule follows no metric.

    Raises:
        ValueError: names the rate.
    """
    if not isinstance(scheduler, ReduceLROnPlateau | GreedyLR):
        return None
    first_rates = [float(group["lr"]) for group in scheduler.optimizer.param_groups]
    rates = stored.get("_last_lr", first_rates)  # it appears with the first step
    count = stored.get("last_epoch", 0)
    # Each change waits for more measurements than its patience; of very many, nothing is left.
    change = max(scheduler.factor ** (count // (max(scheduler.patience, 0) + 1)), math.ulp(0.0))
    highest = [
        min(first / change, most) for first, most in zip(first_rates, getattr(scheduler, "max_lrs", first_rates))
    ]
    for rate, first, least, most in zip(rates, first_rates, scheduler.min_lrs, highest):
        lowest, most = min(first, max(first * change, least)), max(first, most)
        if not lowest * (1 - 1e-6) <= rate <= most * (1 + 1e-6):
            raise ValueError(
                f"`_last_lr` of {SCHEDULER_NAME} is {rate}; by this run's schedule it is between {lowest} and {most} "
                f"after {count} measurements"
            )
    return [float(rate) for rate in rates]


def _is_average(stored: Any, window_size: int | None) -> bool:
    """Whether something is what transformers' `StreamingAverage` keeps of the last values."""
    if type(stored) is not dict or stored.keys() != {"window_size", "values", "sum"}:
        return False
    values, total = stored["values"], stored["sum"]
    if type(values) is not list or window_size is None or stored["window_size"] != window_size:
        return False
    return len(values) <= window_size and all(type(number) in (int, float) for number in (*values, total))


def check_callbacks(stored: Any, callbacks: Sequence[ExportableState]) -> None:
    """Refuse states of callbacks that those of this run have not written; the Trainer sets whatever they name.

    Args:
        stored: state of the Trainer, as the file says.
        callbacks: those of this run that keep a state; without it, the next checkpoint could not be written.

    Raises:
        ValueError: names the callback, and what of its state differs.
    """
    states = stored.get("stateful_callbacks") if type(stored) is dict else stored
    where = f"`stateful_callbacks` of {TRAINER_STATE_NAME}"
    if type(states) is not dict:
        raise ValueError(f"{where} is {_shown(states)}; a dict is needed")
    for callback in callbacks:
        name = type(callback).__name__
        if name not in states:
            raise ValueError(f"{where} has no {name}, which this run has; leave the callback out")
        for state in states[name] if type(states[name]) is list else [states[name]]:
            for part, values in callback.state().items():
                one = state.get(part) if type(state) is dict else state
                if type(one) is not dict or one.keys() != values.keys():
                    raise ValueError(f"{where}, {name}: `{part}` is {_shown(one)}; {_shown(values)} is needed")
                for key, value in values.items():
                    _check_alike(one[key], value, where=f"{where}, {name}: `{key}`")


def _check_alike(stored: Any, own: Any, *, where: str) -> None:
    """Refuse what is not plain, a switch or a text in another type, and a number that is none."""
    _check_plain(stored, where=where)
    if type(own) in (bool, str) and type(stored) is not type(own):
        raise ValueError(f"{where} is {_shown(stored)}, not as {_shown(own)}")
    if _is_finite(own) and not _is_finite(stored):
        raise ValueError(f"{where} is {_shown(stored)}; a finite number is needed")


def check_optimizer(
    stored: Any,
    optimizer: Optimizer,
    *,
    rates: Sequence[float] | None,
    num_steps: int,
    num_done: int | None = None,
    has_scaler: bool = False,
) -> list[Tensor]:
    """Refuse a state that this run's optimizer cannot have written.

    What it keeps of a parameter is found out by a step of it over zeros of the parameter's shape.

    Args:
        stored: as the file says.
        optimizer: that of this run, without wrappers.
        rates: learning rates of its groups at the stored step; `None` where any can be.
        num_steps: steps of the stored training; those of them that were skipped left no state.
        num_done: those of them that were not skipped; `None` where that is not known.
        has_scaler: whether a scaler of half precision may have kept the optimizer from counting some of these.

    Returns:
        Parameters that it has no state of, or one of fewer steps than were done. Those that had no gradient in some
        steps are such, and nothing tells them from those whose states were taken away.

    Raises:
        ValueError: names the field.
    """
    own_groups = optimizer.state_dict()["param_groups"]
    if type(stored) is not dict or stored.keys() != {"state", "param_groups"}:
        raise ValueError(f"{OPTIMIZER_NAME} is {_shown(stored)}, and not the state of an optimizer")
    groups, states = stored["param_groups"], stored["state"]
    if type(groups) is not list or len(groups) != len(own_groups) or type(states) is not dict:
        raise ValueError(f"{OPTIMIZER_NAME} has {_shown(groups)} as groups; {len(own_groups)} are needed")
    is_plain = type(optimizer).__module__.partition(".")[0] in PLAIN_OPTIMIZERS
    for position, (group, own) in enumerate(zip(groups, own_groups)):
        where = f"{OPTIMIZER_NAME}['param_groups'][{position}]"
        _check_group(group, own, where=where, rate=None if rates is None else rates[position], is_plain=is_plain)
    members = {
        number: (group, parameter)
        for group, own in zip(optimizer.param_groups, own_groups)
        for number, parameter in zip(own["params"], group["params"])
    }
    if not states.keys() <= members.keys():
        raise ValueError(f"{OPTIMIZER_NAME} has a state of parameters that this run has not")
    # Others may count otherwise, or keep nothing of some parameters.
    num_counted = num_steps if num_done is None or not is_plain else num_done
    without = [one for number, one in members.items() if number not in states] if is_plain and num_counted else []
    missing = [parameter for group, parameter in without if _state_of_a_step(optimizer, group, parameter)]
    if missing and not states and num_done:
        raise ValueError(f"{OPTIMIZER_NAME} has no state, after {num_done} steps")
    steps: dict[int, float] = {}
    for number, state in states.items():
        where = f"{OPTIMIZER_NAME}['state'][{number}]"
        group, parameter = members[number]
        check_form(state, _state_of_a_step(optimizer, group, parameter), where=where, dtypes=(parameter.dtype,))
        # Some (Adagrad) have a state before the first step.
        least = 0 if has_scaler or not is_plain or parameter in optimizer.state else 1
        _check_values(state, where=where, num_steps=num_counted, least=least)
        if is_plain and "step" in state:
            steps[number] = _step_of(state)
    expected = max(steps.values(), default=0) if num_done is None or has_scaler else num_done
    return missing + [members[number][1] for number, step in steps.items() if step < expected]


def _check_group(group: Any, own: Mapping[str, Any], *, where: str, rate: float | None, is_plain: bool) -> None:
    check_form(group, own, where=where)
    for name, value in group.items():
        if name == "lr" and value is not None:
            highest = LARGEST_RISE * own.get("initial_lr", own["lr"])
            is_as_scheduled = 0 <= value <= highest if rate is None else math.isclose(value, rate, rel_tol=1e-6)
            if not is_as_scheduled:
                expected = f"at most {highest}" if rate is None else rate
                raise ValueError(f"`lr` of {where} is {value}, and by this run's schedule {expected}")
        elif name in CYCLED and rate is None:
            if not all(0 <= number <= 1 for number in (value if isinstance(value, tuple) else (value,))):
                raise ValueError(f"`{name}` of {where} is {value}")
        elif value != own[name] and (is_plain or name in ("params", "initial_lr")):
            raise ValueError(f"`{name}` of {where} is {_shown(value)}; this run's is {_shown(own[name])}")


def _step_of(state: Mapping[str, Any]) -> float:
    step = state["step"]
    return float(step.max()) if isinstance(step, Tensor) else step


def _check_values(state: Mapping[str, Any], *, where: str, num_steps: int, least: int) -> None:
    """What a form does not show: steps that can have been done, and squares."""
    for name, value in state.items():
        if name == "step":
            step = _step_of(state)
            if not (least <= step <= num_steps and step == int(step)):
                raise ValueError(f"{where}['step'] is {step}, after {num_steps} steps of the training")
        elif name in NEVER_NEGATIVE and bool(torch.as_tensor(value).lt(0).any()):
            raise ValueError(f"{where}[{name!r}], of squares, has negative values")


def _state_of_a_step(optimizer: Optimizer, group: dict[str, Any], parameter: Tensor) -> dict[str, Any]:
    """What an optimizer keeps of a parameter, as it would be stored after a step; all zeros, and of the same memory.

    Raises:
        ValueError: its step needs more than a gradient.
    """
    with _alone(optimizer, group, parameter):
        try:
            # That of the class: schedulers and accelerate count the steps of the object.
            type(optimizer).step(optimizer)
        except Exception as error:
            raise ValueError(
                f"what {type(optimizer).__name__} keeps of its steps cannot be found out ({error}), so nothing of it "
                "is taken on trust"
            ) from error
        return cast(dict[str, Any], optimizer.state_dict()["state"].get(0, {}))


@contextmanager
def _alone(optimizer: Optimizer, group: dict[str, Any], parameter: Tensor) -> Iterator[None]:
    """For the time of a block, zeros of a parameter's shape are all that the optimizer has, and it has no state."""
    kept_groups = [dict(one) for one in optimizer.param_groups]
    kept_state = dict(optimizer.state)
    stand_in = nn.Parameter(torch.zeros_like(parameter, requires_grad=False))
    stand_in.grad = torch.zeros_like(stand_in)
    optimizer.state.clear()
    for one in optimizer.param_groups:
        one["params"] = [stand_in] if one is group else []
    try:
        yield
    finally:
        # In place: an optimizer may share both with others.
        for one, kept in zip(optimizer.param_groups, kept_groups):
            one.clear()
            one.update(kept)
        optimizer.state.clear()
        optimizer.state.update(kept_state)


def check_scaler(stored: Any, own: Mapping[str, Any], *, first_scale: float, num_steps: int) -> None:
    """Refuse scales of half precision that are not of this run, or would make every gradient 0 or infinite.

    Args:
        stored: state of the checkpoint's scaler.
        own: state of this run's, whatever steps it has done.
        first_scale: what a run begins with.
        num_steps: steps that were done.

    Raises:
        ValueError: names the field.
    """
    if type(stored) is not dict or stored.keys() != own.keys():
        raise ValueError(f"{SCALER_NAME} is {_shown(stored)}; {_shown(own)} is needed")
    for name, value in stored.items():
        is_count = name == "_growth_tracker"
        is_kept = name in ("growth_factor", "backoff_factor", "growth_interval")
        if not _is_finite(value) or value < 0 or (value == 0 and not is_count):
            raise ValueError(f"`{name}` of {SCALER_NAME} is {_shown(value)}")
        if is_kept and (value != own[name] or type(value) is not type(own[name])):
            raise ValueError(f"`{name}` of {SCALER_NAME} is {_shown(value)}; this run's is {own[name]}")
    if not stored:
        return  # a scaler that is switched off
    tracker, interval = stored["_growth_tracker"], own["growth_interval"]
    if type(tracker) is not int or tracker >= interval:
        raise ValueError(f"`_growth_tracker` of {SCALER_NAME} is {_shown(tracker)}; it counts to {interval}")
    # A step lowers it once at most, and a whole interval of steps raises it once.
    begun = math.log2(first_scale)
    lowest = max(begun + num_steps * math.log2(own["backoff_factor"]), SCALE_EXPONENTS[0])
    highest = min(begun + num_steps // interval * math.log2(own["growth_factor"]), SCALE_EXPONENTS[1])
    # torch rounds it to float32.
    if not lowest - 1e-3 <= math.log2(stored["scale"]) <= highest + 1e-3:
        raise ValueError(
            f"`scale` of {SCALER_NAME} is {_shown(stored['scale'])}; {num_steps} steps from this run's first scale, "
            f"{first_scale:g}, leave it between {2**lowest:g} and {2**highest:g}, where gradients do not become 0"
        )


def read_random_state(path: Path) -> dict[str, Any]:
    """The states of the random generators, in the forms that these take.

    Raises:
        ValueError: names the generator whose state it is not.
    """
    stored = read_state(path)
    own = {"python": random.getstate(), "numpy": np.random.get_state(), "cpu": torch.random.get_rng_state()}
    if type(stored) is not dict or not own.keys() <= stored.keys():
        raise ValueError(f"{path.name} is {_shown(stored)}; the states of {', '.join(own)} are needed")
    _version, words, spare = own["python"]
    if isinstance(stored["python"], tuple) and stored["python"][2:] and stored["python"][2] is not None:
        spare = 0.0  # a second draw of a pair, kept for the next
    check_form(stored["python"], (_version, words, spare), where=f"`python` of {path.name}")
    check_form(stored["cpu"], own["cpu"], where=f"`cpu` of {path.name}")
    _check_torch_state(stored["cpu"], where=f"`cpu` of {path.name}")
    name, array, position, has_spare, spare = _numpy_state(stored["numpy"], where=f"`numpy` of {path.name}")
    torch_words = stored["cpu"][TORCH_WORDS_BEGIN:][: 8 * MERSENNE_WORDS].numpy().view(np.int64)
    words = {"python": stored["python"][1][:-1], "numpy": array, "cpu": torch_words}
    for generator, own_words in words.items():
        # What a generator takes of them: 32 bits of each, and only the highest of the first.
        taken = np.array(own_words, dtype=np.int64).astype(np.uint32)
        # They would stay zeros, and numpy would look for a normal number among them forever.
        if not taken[0] >> 31 and not taken[1:].any():
            raise ValueError(f"`{generator}` of {path.name} is of zeros, which no generator has")
    devices = {
        device: state
        for device, state in stored.items()
        if device not in own and _are_bytes(state, where=f"`{printable(str(device), limit=50)}` of {path.name}")
    }
    numpy_state = (name, array, position, has_spare, spare)
    return {"python": stored["python"], "numpy": numpy_state, "cpu": stored["cpu"], **devices}


def _check_torch_state(stored: Tensor, *, where: str) -> None:
    """Refuse a place in the words from which torch, which counts those left apart from it, would read behind them, and
    a draw that is not a number."""
    # As its `CPUGeneratorImplStateLegacy` begins: the seed, the words left, a flag, the next word.
    left, _, position = struct.unpack_from("=iiQ", bytes(stored[:TORCH_WORDS_BEGIN].tolist()), 8)
    if (left, position) != (1, 0) and not (left >= 1 and left + position == MERSENNE_WORDS + 1):
        raise ValueError(f"{where} has the position {position} and {left} words left, of {MERSENNE_WORDS}")
    # Behind the words: second draws of a pair, kept for the next, a double and a float.
    behind = bytes(stored[TORCH_WORDS_BEGIN + 8 * MERSENNE_WORDS :].tolist())
    if not all(map(_is_finite, struct.unpack_from("=8xd16xf", behind))):
        raise ValueError(f"{where} has a draw for the next time that is not a finite number")


def _numpy_state(stored: Any, *, where: str) -> tuple[str, np.ndarray, int, int, float]:
    if type(stored) is not tuple or len(stored) != 5 or not isinstance(stored[1], _StoredArray):
        raise ValueError(f"{where} is {_shown(stored)}")
    try:
        words = stored[1].words()
    except (TypeError, AttributeError, IndexError, ValueError) as error:
        raise ValueError(f"{where} holds another array") from error
    name, _, position, has_spare, spare = stored
    # numpy reads at the position without looking.
    if name != "MT19937" or len(words) != MERSENNE_WORDS or type(position) is not int or type(has_spare) is not int:
        raise ValueError(f"{where} is not that of a Mersenne Twister")
    if not (0 <= position <= MERSENNE_WORDS and has_spare in (0, 1) and _is_finite(spare)):
        raise ValueError(f"{where} has the position {_shown(position)}, of {MERSENNE_WORDS}")
    return name, words, position, has_spare, spare


def _are_bytes(stored: Any, *, where: str) -> bool:
    """Whether a device's state, or those of several, are tensors of bytes; raises where not."""
    for state in stored if type(stored) is list else [stored]:
        if not isinstance(state, Tensor) or state.dtype != torch.uint8 or not state.is_contiguous():
            raise ValueError(f"{where} is {_shown(state)}; a tensor of bytes is needed")
    return True
