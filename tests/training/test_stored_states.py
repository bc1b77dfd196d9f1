"""What a run takes up of a checkpoint has the form that its own optimizer, schedule and random generators write."""

import copy
import pickle
import random
import tracemalloc
import zipfile

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR, ReduceLROnPlateau
from transformers import Adafactor
from transformers.optimization import GreedyLR

from froster_hf.conversion.pickle_worker import rebuild_tensor
from froster_hf.shapes.pretraining.trainer import muon_and_adamw
from froster_hf.training.stored_states import (
    check_optimizer,
    check_rates_by_metric,
    check_scheduler,
    read_random_state,
    read_state,
)
from tests.fixtures.pickles import Calls

OPTIMIZERS = {
    "fused AdamW": lambda model: torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True),
    "AdamW of largest squares": lambda model: torch.optim.AdamW(model.parameters(), lr=1e-3, amsgrad=True),
    "SGD": lambda model: torch.optim.SGD(model.parameters(), lr=1e-3),
    "SGD with momentum": lambda model: torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9),
    "RMSprop": lambda model: torch.optim.RMSprop(model.parameters(), lr=1e-3, momentum=0.9, centered=True),
    "Adagrad": lambda model: torch.optim.Adagrad(model.parameters(), lr=1e-3),
    "NAdam": lambda model: torch.optim.NAdam(model.parameters(), lr=1e-3),
    "Adafactor": lambda model: Adafactor(model.parameters(), lr=1e-3, relative_step=False, scale_parameter=False),
    "torch's Adafactor": lambda model: torch.optim.Adafactor(model.parameters(), lr=1e-3),
    "Muon and AdamW": lambda model: muon_and_adamw(
        model, muon_learning_rate=1e-2, learning_rate=1e-3, weight_decay=0.1, betas=(0.9, 0.98)
    ),
}


class Model(nn.Module):
    """Two matrices in layers, one outside, vectors, and a parameter that nothing reads."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = nn.ModuleDict({"layers": nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 4))})
        self.head = nn.Linear(4, 3)
        self.unread = nn.Parameter(torch.zeros(2))


def trained(name: str, steps: int = 3):
    torch.manual_seed(0)
    model = Model()
    optimizer = OPTIMIZERS[name](model)
    scheduler = LambdaLR(optimizer, lambda step: 1 / (step + 1))
    for _ in range(steps):
        optimizer.zero_grad()
        model.head(model.tower["layers"](torch.ones(2, 6))).square().sum().backward()
        optimizer.step()
        scheduler.step()
    return model, optimizer, scheduler


def stored(state, tmp_path):
    torch.save(state, tmp_path / "state.pt")
    return read_state(tmp_path / "state.pt", num_parameters=10)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_state_of_every_optimizer_is_read_and_taken_as_it_was_written(name, tmp_path):
    _, optimizer, scheduler = trained(name)
    state = stored(optimizer.state_dict(), tmp_path)
    expected = torch.load(tmp_path / "state.pt")
    assert repr(state) == repr(expected)
    new_model, new, new_scheduler = trained(name, steps=0)
    before, begun = copy.deepcopy(new_model.state_dict()), repr(new.state_dict())
    rates = check_scheduler(stored(scheduler.state_dict(), tmp_path), new_scheduler, max_steps=3)
    check_optimizer(state, new, rates=rates, num_steps=3)
    # Nothing has moved: neither the weights nor what the optimizer knows of them.
    assert all(torch.equal(tensor, before[key]) for key, tensor in new_model.state_dict().items())
    assert repr(new.state_dict()) == begun
    new.load_state_dict(state)
    assert repr(new.state_dict()) == repr(optimizer.state_dict())
    check_optimizer(state, optimizer, rates=rates, num_steps=3)
    assert repr(new.state_dict()) == repr(optimizer.state_dict())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_parameters_without_a_state_of_every_step_are_told_in_every_optimizer(name):
    _, optimizer, _ = trained(name)
    state = optimizer.state_dict()
    given = {"rates": None, "num_steps": 4, "num_done": 3}

    def behind(change, new, **fields):
        states = {number: dict(one) for number, one in state["state"].items()}
        change(states)
        return check_optimizer({**state, "state": states}, new, **{**given, **fields})

    def counted_from(states, step):
        for one in states.values():
            one |= {"step": torch.tensor(float(step)) if isinstance(one["step"], torch.Tensor) else step}

    new_model, new, _ = trained(name, steps=0)
    # Nothing reads it, so that it has never had a gradient.
    unread = [] if name == "SGD" else [new_model.unread]
    assert behind(lambda states: None, new) == unread
    if name == "SGD":  # keeps nothing
        return
    first = next(iter(state["state"]))
    lost = [parameter for group in new.param_groups for parameter in group["params"]][first]
    found = behind(lambda states: states.pop(first), new)
    assert {id(parameter) for parameter in found} == {id(lost), id(new_model.unread)}
    with pytest.raises(ValueError, match=r"optimizer\.pt has no state, after 3 steps"):
        behind(dict.clear, new)
    if any("step" not in one for one in state["state"].values()):
        return
    assert len(behind(lambda states: counted_from(states, 2), new)) == len(list(new_model.parameters()))
    # A scaler may have skipped a step that a fused optimizer has been called for.
    assert len(behind(lambda states: counted_from(states, 2), new, has_scaler=True)) == (name != "Adagrad")
    for step in (4,) if name == "Adagrad" else (0, 4):
        with pytest.raises(ValueError, match=rf"\['step'\] is {step}\S*, after 3 steps"):
            behind(lambda states, step=step: counted_from(states, step), new)


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name != "SGD"])
def test_a_tensor_of_another_shape_is_refused_in_the_state_of_every_optimizer(name):
    _, optimizer, _ = trained(name)
    state = optimizer.state_dict()
    for number, one in state["state"].items():
        for key, value in one.items():
            if not isinstance(value, torch.Tensor):
                continue
            for forged in (torch.zeros(3, 1, 1), value.new_zeros(1).expand(10**9), value.long(), [value]):
                altered = {**state["state"], number: {**one, key: forged}}
                with pytest.raises(ValueError, match=rf"optimizer\.pt\['state'\]\[{number}\]\['{key}'\]"):
                    check_optimizer({**state, "state": altered}, optimizer, rates=None, num_steps=3)


class WrittenTo:
    """A tensor that the instructions of a pickle change after it is built."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor

    def __reduce__(self):
        return *self.tensor.__reduce_ex__(2)[:2], None, None, iter([(0, 1)])


@pytest.mark.parametrize(
    ("forged", "message"),
    [
        (WrittenTo(torch.zeros(4)), "it changes what it has built"),
        (WrittenTo(torch.zeros(1).expand(2, 4096, 4096, 4096, 4096)), r"repeats the 1 elements of its storage"),
        (torch.zeros(1).expand(10**12), r"repeats the 1 elements of its storage"),
        (torch._neg_view(torch.ones(4)), "is stored as the negative or conjugate of its numbers"),
    ],
    ids=["written", "written, and beyond its storage", "beyond its storage", "negative of its numbers"],
)
def test_a_tensor_is_neither_written_to_nor_other_than_what_is_stored(forged, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        stored({"a": forged}, tmp_path)


class Called:
    """What a pickle calls with a tensor in place of arguments."""

    def __init__(self, function, arguments) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def test_a_tensor_is_no_list_of_arguments_and_no_size(tmp_path):
    torch.save({"a": Called(np.dtype, ("f8", False, True))}, tmp_path / "state.pt")
    with zipfile.ZipFile(tmp_path / "state.pt") as whole:
        members = {member.filename: whole.read(member) for member in whole.infolist()}
    (name,) = (name for name in members if name.endswith("data.pkl"))
    # What stands between the function and its call: a dictionary in place of the tuple.
    before, after = members[name].split(b"dtype\n", 1)
    members[name] = before + b"dtype\n" + b"}" + after[after.index(b"R") :]
    with zipfile.ZipFile(tmp_path / "state.pt", "w") as forged:
        for member, content in members.items():
            forged.writestr(member, content)
    with pytest.raises(ValueError, match="it calls with something else than arguments"):
        read_state(tmp_path / "state.pt")
    with pytest.raises(ValueError, match="by something else than a storage and sizes"):
        rebuild_tensor(torch.zeros(1), 0, torch.zeros(1).expand(10**6), (0,))


def test_a_packed_word_is_not_unpacked(tmp_path):
    torch.save({"a": torch.zeros(2)}, tmp_path / "whole.pt")
    with zipfile.ZipFile(tmp_path / "whole.pt") as whole, zipfile.ZipFile(tmp_path / "state.pt", "w") as forged:
        for member in whole.infolist():
            if member.filename.endswith("byteorder"):
                forged.writestr(member.filename, b" " * (64 << 20), zipfile.ZIP_BZIP2)
            else:
                forged.writestr(member.filename, whole.read(member))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="byteorder is compressed"):
            read_state(tmp_path / "state.pt")
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_what_an_unknown_optimizer_keeps_is_an_honest_error():
    model = Model()
    optimizer = torch.optim.LBFGS(model.parameters())
    state = {**optimizer.state_dict(), "state": {0: {}}}
    with pytest.raises(ValueError, match="what LBFGS keeps of its steps cannot be found out"):
        check_optimizer(state, optimizer, rates=None, num_steps=1)


@pytest.mark.parametrize(("kind", "most"), [(ReduceLROnPlateau, 1e-3), (GreedyLR, 1e-3 / 0.5**4)])
def test_rates_that_follow_a_metric_are_such_as_its_measurements_lead_to(kind, most):
    def build():
        optimizer = torch.optim.AdamW(Model().parameters(), lr=1e-3)
        return optimizer, kind(optimizer, factor=0.5, patience=1, min_lr=1e-5)

    def check(state, rate):
        own, own_scheduler = build()
        rates = check_rates_by_metric({**state, "_last_lr": [rate]}, own_scheduler)
        group = {**own.state_dict()["param_groups"][0], "lr": rate}
        check_optimizer({"state": {}, "param_groups": [group]}, own, rates=rates, num_steps=0)
        check_optimizer({"state": {}, "param_groups": [{**group, "lr": rate / 2}]}, own, rates=rates, num_steps=0)

    for metrics in ([5.0] * 9, [9.0 - number for number in range(9)]):
        optimizer, scheduler = build()
        for metric in metrics:
            optimizer.step()
            scheduler.step(metric)
        state, rate = scheduler.state_dict(), optimizer.param_groups[0]["lr"]
        with pytest.raises(ValueError, match=r"`lr` of optimizer\.pt.* by this run's schedule"):
            check(state, rate)
        for forged in (most * 1.01, 1e-3 * 0.5**4 * 0.99, 0.0):
            with pytest.raises(ValueError, match=r"`_last_lr` of scheduler\.pt is .* after 9 measurements"):
                check(state, forged)
    assert check_rates_by_metric({}, OneCycleLR(optimizer, max_lr=1e-2, total_steps=10)) is None


@pytest.mark.parametrize("kind", [ReduceLROnPlateau, OneCycleLR])
def test_schedules_that_are_no_function_of_the_step_are_plain_numbers(kind, tmp_path):
    def build():
        optimizer = torch.optim.AdamW(Model().parameters(), lr=1e-3)
        given = {"max_lr": 1e-2, "total_steps": 10} if kind is OneCycleLR else {"patience": 0}
        return optimizer, kind(optimizer, **given)

    optimizer, scheduler = build()
    for metric in (3.0, 4.0, 5.0):
        optimizer.step()
        scheduler.step(*([metric] if kind is ReduceLROnPlateau else []))
    own, own_scheduler = build()
    state = stored({key: value for key, value in scheduler.state_dict().items() if not callable(value)}, tmp_path)
    assert check_scheduler(state, own_scheduler, max_steps=3) is None
    check_optimizer(optimizer.state_dict(), own, rates=None, num_steps=0)
    given = {"min_lrs": ["a"]} if kind is ReduceLROnPlateau else {"total_steps": 11}
    others = ({"factor": 0.0}, {"min_lrs": []}) if kind is ReduceLROnPlateau else ({"_anneal_func_type": "linear"},)
    moved = ({"step": 1}, {"_last_lr": torch.zeros(1)}, {"_last_lr": ["a"]}, {"_last_lr": []}, {"last_epoch": 10**9})
    for forged in ({**state, **fields} for fields in (given, *others, *moved)):
        with pytest.raises(ValueError, match=r"scheduler\.pt"):
            check_scheduler(forged, own_scheduler, max_steps=3)


def test_an_average_of_metrics_is_that_of_the_runs_own_window():
    def build():
        return GreedyLR(torch.optim.AdamW(Model().parameters(), lr=1e-3), smooth=True, window_size=2)

    scheduler = build()
    for metric in (3.0, 4.0, 5.0):
        scheduler.step(metric)
    state = scheduler.state_dict()
    assert check_scheduler(state, build(), max_steps=3) is None
    average = state["_streaming_avg"]
    others = (
        {"window_size": 0},
        {"values": [1.0] * 3},
        {"values": "ab"},
        {"values": ["a"]},
        {"sum": None},
        {"more": 1},
    )
    for forged in (3, *(average | fields for fields in others)):
        with pytest.raises(ValueError, match=r"`_streaming_avg` of scheduler\.pt"):
            check_scheduler({**state, "_streaming_avg": forged}, build(), max_steps=3)


@pytest.mark.parametrize(
    "value",
    [
        Calls(bytearray, 10**9),
        Calls(torch.Tensor, 10),
        {(1, 2): 3},
        {2**61 - 1: 3},
        {"a": {1, 2}},
        nn.Parameter(torch.zeros(2)),
    ],
)
def test_a_pickle_of_anything_but_tensors_and_numbers_is_refused(value, tmp_path):
    with pytest.raises(ValueError, match=r"state\.pt is not what a training writes"):
        stored(value, tmp_path)


def test_pickles_that_lie_about_their_sizes_are_refused(tmp_path):
    torch.save({"x": torch.arange(8.0)}, tmp_path / "state.pt")
    with zipfile.ZipFile(tmp_path / "state.pt") as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    root = next(iter(members)).partition("/")[0]
    lies = {
        "another size is claimed": {f"{root}/data/0": bytes(8)},
        "more than 65536": {f"{root}/data.pkl": pickle.dumps(list(range(40_000)), protocol=2)},
        "is not what a training writes": {f"{root}/data.pkl": b"\x80\x02]r\xff\xff\xff\x7f\x8a"},
    }
    for reason, changed in lies.items():
        with zipfile.ZipFile(tmp_path / "state.pt", "w") as archive:
            for name, content in {**members, **changed}.items():
                archive.writestr(name, content)
        with pytest.raises(ValueError, match=reason):
            read_state(tmp_path / "state.pt")


def test_random_states_go_on_as_they_were(tmp_path):
    random.gauss(0, 1)
    np.random.standard_normal()
    states = {"python": random.getstate(), "numpy": np.random.get_state(), "cpu": torch.get_rng_state()}
    expected = random.gauss(0, 1), np.random.standard_normal(), torch.rand(1)
    torch.save({**states, "cuda": [torch.zeros(16, dtype=torch.uint8)]}, tmp_path / "rng_state.pth")
    read = read_random_state(tmp_path / "rng_state.pth")
    random.setstate(read["python"])
    np.random.set_state(read["numpy"])
    torch.set_rng_state(read["cpu"])
    assert (random.gauss(0, 1), np.random.standard_normal(), torch.rand(1)) == expected
    assert read["cuda"][0].dtype == torch.uint8


# What a Mersenne Twister does not look at: the words' bits above 32, and all of the first one but its 32nd.
UNREAD = {"zeros": {}, "low bits of the first word": {0: 2**31 - 1}, "bits above 32": {0: 2**33, 5: 2**32}}


@pytest.mark.parametrize("unread", UNREAD)
@pytest.mark.parametrize("generator", ["python", "numpy", "cpu"])
def test_a_random_state_of_zeros_is_refused_by_name(tmp_path, generator, unread):
    """A Mersenne Twister never leaves it, and numpy would draw for a normal number without an end."""
    states = {"python": random.getstate(), "numpy": np.random.get_state(), "cpu": torch.get_rng_state()}
    version, words, spare = states["python"]
    name, _, *place = states["numpy"]
    given = [UNREAD[unread].get(position, 0) for position in range(624)]
    forged = {
        "python": (version, (*given, words[-1]), spare),
        "numpy": (name, np.array(given).astype(np.uint32), *place),
        # Behind the words are the normal numbers that torch keeps for the next draws.
        "cpu": torch.cat(
            [states["cpu"][:24], torch.tensor(given).view(torch.uint8), torch.ones(40, dtype=torch.uint8)]
        ),
    }
    torch.save({**states, generator: forged[generator]}, tmp_path / "rng_state.pth")
    with pytest.raises(ValueError, match=rf"`{generator}` of rng_state\.pth is of zeros"):
        read_random_state(tmp_path / "rng_state.pth")


@pytest.mark.parametrize(("place", "number"), [(-32, torch.float64), (-8, torch.float32)])
def test_a_draw_that_torch_keeps_for_the_next_time_is_a_number(tmp_path, place, number):
    """It would be the first normal number of the resumed training."""
    torch.manual_seed(0)
    torch.randn(1, dtype=torch.float64)
    states = {"python": random.getstate(), "numpy": np.random.get_state(), "cpu": torch.get_rng_state()}
    expected = torch.randn(2, dtype=torch.float64)
    torch.save(states, tmp_path / "rng_state.pth")
    torch.set_rng_state(read_random_state(tmp_path / "rng_state.pth")["cpu"])
    assert torch.equal(torch.randn(2, dtype=torch.float64), expected)
    nan = torch.tensor([torch.nan], dtype=number).view(torch.uint8)
    states["cpu"][place:][: len(nan)] = nan
    torch.save(states, tmp_path / "rng_state.pth")
    with pytest.raises(ValueError, match=r"`cpu` of rng_state\.pth has a draw .* not a finite number"):
        read_random_state(tmp_path / "rng_state.pth")


@pytest.mark.parametrize("position", [0, 1, 623])
def test_a_random_state_of_one_bit_that_is_looked_at_is_gone_on_with(tmp_path, position):
    words = [2**31 if number == position else 0 for number in range(624)]
    states = {
        "python": (3, (*words, 624), None),
        "numpy": ("MT19937", np.array(words, dtype=np.uint32), 624, 0, 0.0),
        "cpu": torch.cat([torch.get_rng_state()[:24], torch.tensor(words).view(torch.uint8), torch.zeros(40).byte()]),
    }
    torch.save(states, tmp_path / "rng_state.pth")
    assert read_random_state(tmp_path / "rng_state.pth").keys() == states.keys()
