"""The running mean is the mean of the saved checkpoints, whole or resumed, and is saved as a model to use."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from froster_hf import FrosterForVideoClassification
from froster_hf.training.checkpointing import ResumeError, list_checkpoints
from froster_hf.training.weights import WeightAveraging, gaussian_weighting
from froster_hf.training.whole_folders import seal
from tests.training.tiny import LABELS, Arrays, tiny_trainer

# Two steps an epoch.
EPOCHS = {"num_train_epochs": 4, "max_steps": -1, "save_strategy": "epoch"}


def mean_of_checkpoints(folder, steps) -> dict[str, torch.Tensor]:
    weights = [load_file(folder / f"checkpoint-{step}" / "model.safetensors") for step in steps]
    return {name: torch.stack([each[name].double() for each in weights]).mean(0) for name in weights[0]}


def assert_close(actual, expected):
    assert actual.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(actual[name].double(), tensor.double(), atol=1e-6, rtol=0)


def test_the_saved_average_is_the_mean_of_the_checkpoints_of_these_epochs(tmp_path):
    trainer = tiny_trainer(tmp_path, average_weights_from_epoch=2, **EPOCHS)
    trainer.train()
    assert list(list_checkpoints(tmp_path)) == [8, 6, 4, 2]
    averaged = FrosterForVideoClassification.from_pretrained(tmp_path / "weight-average")
    expected = mean_of_checkpoints(tmp_path, (4, 6, 8))
    expected = {name: tensor for name, tensor in expected.items() if "distillation_projectors" not in name}
    state_dict = averaged.state_dict()
    assert state_dict.pop("label_embeds").shape == (len(LABELS), 32)
    assert_close(state_dict, expected)
    # The trained weights are untouched.
    assert_close(trainer.student.state_dict(), load_file(tmp_path / "checkpoint-8" / "model.safetensors"))


@pytest.mark.parametrize("save_steps", [2, 3], ids=["saved at the end of an epoch", "saved within an epoch"])
def test_the_average_of_a_resumed_run_is_bitwise_that_of_a_whole_one(tmp_path, save_steps):
    fields = {**EPOCHS, "save_strategy": "steps", "save_steps": save_steps, "average_weights_from_epoch": 2}
    averages = []
    for resume in (None, str(tmp_path / f"checkpoint-{2 * save_steps}")):
        tiny_trainer(tmp_path, **fields).train(resume_from_checkpoint=resume)
        averages.append(load_file(tmp_path / "weight-average" / "model.safetensors"))
    assert averages[0].keys() == averages[1].keys()
    for name in averages[0]:
        assert torch.equal(averages[0][name], averages[1][name]), name


def test_the_range_of_epochs_is_kept_to(tmp_path):
    averaging = WeightAveraging(2, last_epoch=3)
    trainer = tiny_trainer(tmp_path, callbacks=[averaging], **EPOCHS)
    trainer.train()
    assert averaging.epochs == [2, 3]
    expected = mean_of_checkpoints(tmp_path, (4, 6))
    with averaging.applied_to(trainer.student):
        assert_close(trainer.student.state_dict(), expected)
    assert_close(trainer.student.state_dict(), load_file(tmp_path / "checkpoint-8" / "model.safetensors"))


def test_only_trained_parameters_are_kept(tmp_path):
    averaging = WeightAveraging(1)
    trainer = tiny_trainer(
        tmp_path,
        model_fields={"temporal_module": "st_adapter"},
        trained_parameters="adapters",
        callbacks=[averaging],
        max_steps=2,
    )
    trainer.train()
    assert averaging.epochs == [1]
    trained = {name for name, parameter in trainer.student.named_parameters() if parameter.requires_grad}
    assert averaging.mean.keys() == trained
    assert any("st_adapter" in name for name in trained)
    assert not any("self_attn" in name for name in trained)


def test_factors_of_low_rank_updates_are_not_averaged(tmp_path):
    """The mean of A and the mean of B are not the mean of B A."""
    pytest.importorskip("peft")
    with pytest.raises(ValueError, match=r"`average_weights_from_epoch` is 1, .* trained_parameters='lora'"):
        tiny_trainer(tmp_path, trained_parameters="lora", average_weights_from_epoch=1)
    trainer = tiny_trainer(tmp_path, trained_parameters="lora", callbacks=[WeightAveraging(1)])
    with pytest.raises(ValueError, match="carry adapters of PEFT"):
        trainer.train()


def test_an_average_that_would_lack_epochs_is_refused(tmp_path):
    tiny_trainer(tmp_path, max_steps=2, save_strategy="steps", save_steps=1).train()
    with pytest.raises(ResumeError, match="average_weights_from_epoch was null and is 1 now"):
        tiny_trainer(tmp_path, average_weights_from_epoch=1).train(resume_from_checkpoint=True)
    with pytest.raises(ResumeError, match=r"checkpoint-2 was written without weight averaging"):
        tiny_trainer(tmp_path, callbacks=[WeightAveraging(1)]).train(resume_from_checkpoint=True)


def test_a_stored_average_that_says_too_much_is_refused(tmp_path):
    """Its epochs are JSON within its header."""
    options = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1, "average_weights_from_epoch": 1}
    tiny_trainer(tmp_path, **options).train()
    file = tmp_path / "checkpoint-2" / "weight_average.safetensors"
    for epochs, reason in (("[" * 100_000, "nested too deeply"), ("[]," * 2_000_000, "at most 4194304 are read")):
        save_file(load_file(file), file, metadata={"epochs": epochs})
        (tmp_path / "checkpoint-2" / "manifest.json").unlink()
        seal(tmp_path / "checkpoint-2")
        with pytest.raises(ResumeError, match=reason):
            tiny_trainer(tmp_path, **options).train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))


@pytest.mark.parametrize(
    ("value", "epochs", "reason"),
    [
        (None, "[]", "not the mean of the epochs that the training has had"),
        (0.0, "[1]", "not the mean of the epochs that the training has had"),
        (0.0, "[1, true]", "does not say which epochs it is the mean of"),
        (1e39, "[1, 2]", r"has values that torch\.float32 does not hold"),
    ],
    ids=["of nothing", "of fewer epochs", "of no numbers", "beyond single precision"],
)
def test_a_stored_average_that_the_run_cannot_have_is_refused_before_the_steps(tmp_path, value, epochs, reason):
    options = {"max_steps": 4, "save_strategy": "steps", "save_steps": 4, "average_weights_from_epoch": 1}
    tiny_trainer(tmp_path, **options).train()
    file = tmp_path / "checkpoint-4" / "weight_average.safetensors"
    mean = {} if value is None else {name: torch.full_like(one, value) for name, one in load_file(file).items()}
    save_file(mean, file, metadata={"epochs": epochs})
    (tmp_path / "checkpoint-4" / "manifest.json").unlink()
    seal(tmp_path / "checkpoint-4")
    with pytest.raises(ResumeError, match=f"checkpoint.*4.*{reason}"):
        tiny_trainer(tmp_path, **options).train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))


def test_of_a_stream_whose_epochs_end_between_the_numbers_no_epoch_is_missed(tmp_path):
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            clips = Arrays()
            return (clips[index] for index in range(len(clips)))

    options = {"max_steps": 6, "save_strategy": "steps", "save_steps": 3, "average_weights_from_epoch": 1}
    tiny_trainer(tmp_path, train_dataset=Stream(), **options).train()
    trainer = tiny_trainer(tmp_path, train_dataset=Stream(), **options)
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert trainer.state.global_step == 6


def test_training_again_begins_a_new_average(tmp_path):
    averaging = WeightAveraging(1)
    trainer = tiny_trainer(tmp_path, callbacks=[averaging], max_steps=2)
    trainer.train()
    trainer.train(overwrite=True)
    assert averaging.epochs == [1]


def test_empty_ranges_are_refused():
    with pytest.raises(ValueError, match="Epochs -1 to the last"):
        WeightAveraging(-1)
    with pytest.raises(ValueError, match="Epochs 3 to 2"):
        WeightAveraging(3, last_epoch=2)
    with (
        pytest.raises(ValueError, match="none of the epochs 2 to the last has ended"),
        WeightAveraging().applied_to(torch.nn.Linear(1, 1)),
    ):
        pass


def test_the_mean_of_many_epochs_is_exact():
    averaging = WeightAveraging(1)
    generator = torch.Generator().manual_seed(0)
    model = torch.nn.Linear(8, 8)
    seen = []
    for epoch in range(1, 201):
        with torch.no_grad():
            model.weight.normal_(mean=100.0, generator=generator)
        seen.append(model.weight.detach().double().clone())
        averaging._add(model, epoch)
    torch.testing.assert_close(averaging.mean["weight"], torch.stack(seen).mean(0), atol=1e-10, rtol=0)


def test_from_epoch_zero_the_weights_before_the_training_count_once(tmp_path):
    trainer = tiny_trainer(tmp_path, average_weights_from_epoch=0, distillation="none", **EPOCHS)
    start = {name: tensor.double().clone() for name, tensor in trainer.student.state_dict().items()}
    trainer.train()
    averaged = FrosterForVideoClassification.from_pretrained(tmp_path / "weight-average").state_dict()
    epochs = mean_of_checkpoints(tmp_path, (2, 4, 6, 8))
    assert_close({n: averaged[n] for n in epochs}, {n: (4 * epochs[n] + start[n]) / 5 for n in epochs})


def test_a_gaussian_mean_is_that_of_its_formula(tmp_path):
    options = {"weight_average": "gaussian", "weight_average_center": 3.0, "weight_average_width": 0.8}
    fields = {**EPOCHS, **options, "average_weights_from_epoch": 1, "distillation": "none"}
    tiny_trainer(tmp_path, **fields).train()
    averaged = load_file(tmp_path / "weight-average" / "model.safetensors")
    weights = torch.tensor([-(((epoch - 3.0) / 0.8) ** 2) / 2 for epoch in (1, 2, 3, 4)]).exp().double()
    weights = weights / weights.sum()
    epochs = [load_file(tmp_path / f"checkpoint-{step}" / "model.safetensors") for step in (2, 4, 6, 8)]
    expected = {name: sum(weight * each[name].double() for weight, each in zip(weights, epochs)) for name in epochs[0]}
    assert_close({name: averaged[name] for name in expected}, expected)
    # As bitwise the same as without an interruption.
    tiny_trainer(tmp_path, **fields).train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    resumed = load_file(tmp_path / "weight-average" / "model.safetensors")
    assert all(torch.equal(resumed[name], tensor) for name, tensor in averaged.items())


@pytest.mark.parametrize("shape", [(1e200, 1.0), (5.0, 1e-200), (-1e308, 1e-308)])
def test_a_weighting_beyond_floats_counts_nothing(shape):
    assert gaussian_weighting(*shape)(1) == 0.0


def test_epochs_too_far_from_the_center_to_count_are_left_out():
    averaging = WeightAveraging(1, weighting=gaussian_weighting(center=100.0, width=0.1))
    model = torch.nn.Linear(1, 1)
    averaging._add(model, 1)
    assert averaging.epochs == []
    averaging._add(model, 100)
    assert torch.equal(averaging.mean["weight"].float(), model.weight)


def test_an_average_of_epochs_that_all_count_nothing_is_refused_before_the_training(tmp_path):
    options = {"weight_average": "gaussian", "weight_average_center": 100.0, "weight_average_width": 0.1}
    trainer = tiny_trainer(tmp_path, **EPOCHS, **options, average_weights_from_epoch=1)
    with pytest.raises(ValueError, match=r"epochs 1 to 4 that would be averaged.* none.*`weight_average_center`"):
        trainer.train()
    assert not list(tmp_path.glob("checkpoint-*"))


@pytest.mark.parametrize(
    "fields",
    [
        {"weight_average": "gaussian"},
        {"weight_average": "gaussian", "weight_average_center": 3.0},
        {"weight_average_width": 3.0},
        {"weight_average": "gaussian", "weight_average_center": 3.0, "weight_average_width": 0.0},
    ],
)
def test_a_gaussian_without_its_shape_is_refused(tmp_path, fields):
    with pytest.raises(ValueError, match="weight_average"):
        tiny_trainer(tmp_path, **fields)
