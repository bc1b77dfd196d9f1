"""The Trainer beside what transformers brings: searches over arguments, PEFT, weights and passes in half precision."""

import pytest
import torch
import transformers.integrations
from safetensors.torch import load_file
from transformers.trainer_utils import HPSearchBackend

from froster_hf import FrosterForVideoClassification
from froster_hf.training import FrosterTrainer, FrosterTrainingArguments, WeightAveraging
from tests.fixtures.tiny import tiny_model as spelling_model
from tests.fixtures.tiny import tiny_processor
from tests.modeling.tiny import tiny_model
from tests.training.tiny import LABELS, Arrays, tiny_trainer


class NamedClips(torch.utils.data.Dataset):
    """Clips of 32 pixels that know the names of their classes."""

    label_names = list(LABELS)

    def __len__(self):
        return 6

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        return {"pixel_values_videos": torch.randn(4, 3, 32, 32, generator=generator), "labels": index % 3}


def run_trials(trainer: FrosterTrainer, trials: list[dict], folder=None) -> list[str | None]:
    """A search as transformers' own goes about it, without its library; returns the projectors' kind of each trial."""
    trainer.hp_search_backend = HPSearchBackend.WANDB  # the backend whose trials are plain mappings
    trainer._report_to_hp_search = lambda trial, step, metrics: None
    trainer._get_output_dir = lambda trial: str(folder or trainer.args.output_dir)
    kinds = []
    for values in trials:
        trainer.model = None
        trainer.train(trial=dict(values))
        projectors = trainer.student.distillation_projectors
        kinds.append(None if projectors is None else projectors.video.kind)
    return kinds


@pytest.fixture(autouse=True)
def _trials_are_mappings(monkeypatch):
    """transformers knows them only beside the library that they come from."""
    known = transformers.integrations.hp_params
    monkeypatch.setattr(
        transformers.integrations, "hp_params", lambda trial: trial if isinstance(trial, dict) else known(trial)
    )


def search_trainer(folder, *, clips, held_out) -> FrosterTrainer:
    """A Trainer that builds its model anew for every trial."""
    args = {"max_steps": 1, "eval_strategy": "steps", "eval_steps": 1, "save_strategy": "no"}
    args |= {"report_to": "none", "disable_tqdm": True, "use_cpu": True, "per_device_train_batch_size": 2}
    return FrosterTrainer(
        args=FrosterTrainingArguments(output_dir=str(folder), **args),
        model_init=lambda: spelling_model(),
        train_dataset=clips,
        eval_dataset=held_out,
        processing_class=tiny_processor(),
    )


def test_every_trial_of_a_search_trains_with_its_own_values(tmp_path):
    trainer = search_trainer(tmp_path, clips=NamedClips(), held_out=NamedClips())
    trials = [{"distillation": "none"}, {"distillation": "projector"}, {"distillation": "residual"}]
    assert run_trials(trainer, trials) == [None, "mlp", "residual"]
    evaluations = [entry for entry in trainer.state.log_history if "eval_loss" in entry]
    assert len(evaluations) == 1


def test_the_clips_of_a_trial_are_made_with_its_seed_and_options(tmp_path, video_table):
    trainer = search_trainer(tmp_path, clips=video_table, held_out={"held_out": video_table})
    run_trials(trainer, [{"seed": 7, "train_video_options": {"flip_probability": 0.0}}])
    assert trainer.train_dataset.seed == 7
    assert trainer.train_dataset.options["flip_probability"] == 0.0


def test_a_value_of_a_search_that_is_none_of_the_choices_is_refused(tmp_path):
    trainer = search_trainer(tmp_path, clips=NamedClips(), held_out=NamedClips())
    with pytest.raises(ValueError, match="`trained_parameters` is 'head'; it must be one of"):
        run_trials(trainer, [{"trained_parameters": "head"}])


def test_what_follows_the_weights_does_so_by_the_values_of_each_trial(tmp_path):
    """A mean of the first trial's epochs, or a teacher that stays where it was, would be taken for the trial's own."""
    trainer = search_trainer(tmp_path, clips=NamedClips(), held_out=NamedClips())
    trainer.args.max_steps, trainer.args.num_train_epochs, trainer.args.learning_rate = -1, 2, 0.01
    trials = [
        {"average_weights_from_epoch": 2, "distillation": "direct", "teacher_momentum": 0.5},
        {"average_weights_from_epoch": 1, "distillation": "direct", "teacher_momentum": 0.0},
    ]
    averaged = []
    for number, values in enumerate(trials):
        run_trials(trainer, [values], folder=tmp_path / str(number))
        averaged += [own.epochs for own in trainer.callback_handler.callbacks if isinstance(own, WeightAveraging)]
        assert (tmp_path / str(number) / "weight-average" / "model.safetensors").exists()
    assert averaged == [[2], [1, 2]]
    student = trainer.student.froster.state_dict()
    for name, weight in trainer.teacher.model.state_dict().items():
        assert torch.equal(weight, student[name]), name


def test_a_search_with_optuna(tmp_path):
    pytest.importorskip("optuna", reason="`pip install optuna` to try transformers' own search")
    trainer = search_trainer(tmp_path, clips=NamedClips(), held_out=NamedClips())
    space = {"distillation": ["none", "residual"]}
    best = trainer.hyperparameter_search(
        n_trials=3,
        backend="optuna",
        hp_space=lambda trial: {"distillation": trial.suggest_categorical("distillation", space["distillation"])},
    )
    assert best.hyperparameters["distillation"] in space["distillation"]


@pytest.mark.parametrize("adapter", ["add_adapter", "ia3", {"use_dora": True}, {"lora_bias": True}])
def test_adapters_whose_weights_would_be_lost_on_saving_are_refused(tmp_path, adapter):
    peft = pytest.importorskip("peft", reason="`pip install peft` for adapters")
    model = tiny_model()
    if adapter == "add_adapter":
        model.add_adapter(peft.LoraConfig(r=2, target_modules=["q_proj"]))
    elif adapter == "ia3":
        config = peft.IA3Config(target_modules=["q_proj"], feedforward_modules=[])
        peft.inject_adapter_in_model(config, model)
    else:
        config = peft.LoraConfig(r=2, target_modules=["q_proj"], **adapter)
        peft.inject_adapter_in_model(config, model)
    for trained in ("all", "lora"):
        with pytest.raises(ValueError, match=r"carries adapters of PEFT.*set `trained_parameters='lora'`"):
            tiny_trainer(tmp_path, model=model, trained_parameters=trained)


def test_a_model_of_a_folder_of_peft_is_refused_and_its_merged_weights_are_not(tmp_path):
    peft = pytest.importorskip("peft", reason="`pip install peft` for adapters")
    base = tiny_model()
    base.save_pretrained(tmp_path / "base")
    base = FrosterForVideoClassification.from_pretrained(tmp_path / "base")
    adapted = peft.get_peft_model(base, peft.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    adapted.save_pretrained(tmp_path / "adapter")
    with pytest.raises(ValueError, match="carries adapters of PEFT"):
        tiny_trainer(tmp_path, model=FrosterForVideoClassification.from_pretrained(tmp_path / "adapter"))
    trainer = tiny_trainer(tmp_path / "run", model=adapted.merge_and_unload())
    trainer.train()
    trainer.save_model(str(tmp_path / "saved"))
    saved = load_file(tmp_path / "saved" / "model.safetensors")
    for name, parameter in trainer.model.named_parameters():
        if "distillation_projectors" not in name:
            assert torch.equal(saved[name], parameter), name


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("distillation", ["none", "residual"])
def test_weights_in_half_precision_are_trained_and_saved_in_single(tmp_path, dtype, distillation, caplog):
    rate = {"learning_rate": 1e-5, "lr_scheduler_type": "constant", "weight_decay": 0.0}
    trainer = tiny_trainer(tmp_path, model=tiny_model().to(dtype), distillation=distillation, **rate)
    assert [record.message for record in caplog.records if "trained, and will be saved, in float32" in record.message]
    before = {name: parameter.detach().clone() for name, parameter in trainer.model.named_parameters()}
    trainer.train()
    moved = sum(int((parameter != before[name]).sum()) for name, parameter in trainer.model.named_parameters())
    assert moved > 0.6 * sum(tensor.numel() for tensor in before.values())
    trainer.save_model(str(tmp_path / "saved"))
    saved = FrosterForVideoClassification.from_pretrained(tmp_path / "saved", dtype="auto")
    assert {parameter.dtype for parameter in saved.parameters()} == {torch.float32}
    assert saved.config.dtype == torch.float32


def test_weights_in_single_precision_are_trained_without_a_word(tmp_path, caplog):
    tiny_trainer(tmp_path)
    assert not [record for record in caplog.records if "float32" in record.message]


@pytest.mark.parametrize("precision", ["bf16_full_eval", "fp16_full_eval"])
@pytest.mark.parametrize("distillation", ["none", "direct", "residual", "projector"])
def test_evaluation_in_half_precision(tmp_path, precision, distillation):
    expected = tiny_trainer(tmp_path, eval_dataset=Arrays(4), distillation=distillation).evaluate()
    trainer = tiny_trainer(tmp_path, eval_dataset=Arrays(4), distillation=distillation, **{precision: True})
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    metrics = trainer.evaluate()
    assert metrics["eval_loss"] == pytest.approx(expected["eval_loss"], abs=0.05)
    assert {name for name in metrics if "cosine" in name} == {name for name in expected if "cosine" in name}
    # What is trained and saved afterwards is not what the cast has left of the weights.
    assert all(torch.equal(tensor, before[name]) for name, tensor in trainer.model.state_dict().items())
    trainer.train()
    assert {parameter.dtype for parameter in trainer.model.parameters()} == {torch.float32}
    assert trainer.evaluate()["eval_loss"] < 10
