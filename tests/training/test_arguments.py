"""Values that cannot be trained with are refused when they are given."""

import dataclasses
import math
import time
from typing import get_args

import pytest
from transformers import HfArgumentParser, TrainingArguments
from transformers.trainer_pt_utils import AcceleratorConfig

from froster_hf.training import FrosterTrainer, FrosterTrainingArguments
from froster_hf.training.arguments import Distillation
from froster_hf.training.distillation import DISTILLATIONS
from tests.modeling.tiny import tiny_clip, tiny_model
from tests.training.tiny import Arrays, label_prompts, tiny_trainer


def arguments(**fields) -> FrosterTrainingArguments:
    return FrosterTrainingArguments(**{"output_dir": "unused", "report_to": "none", "use_cpu": True} | fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"distillation": "soft"}, "`distillation` is 'soft'; it must be one of none, direct, projector, residual"),
        ({"trained_parameters": "head"}, "`trained_parameters` is 'head'"),
        ({"distillation_weight": -1.0}, "`distillation_weight` is -1.0; it must be at least 0"),
        ({"text_chunk_size": 0}, "`text_chunk_size` is 0; it goes from 1 to 4096."),
        ({"text_chunk_size": 10**9}, "`text_chunk_size` is 1000000000; it goes from 1 to 4096."),
        ({"max_undecodable_share": 2.0}, "it goes from 0 to 1"),
        ({"max_consecutive_nonfinite_steps": 0}, "it must be at least 1"),
        ({"objective": "symmetric_kl"}, "has to be 'random'"),
        ({"remove_unused_columns": True}, "leave it False"),
        ({"lora_rank": 10**8}, "`lora_rank` is 100000000; it goes from 1 to 4096"),
        ({"dataloader_num_workers": 10**6}, "it goes from 0 to"),
        ({"per_device_train_batch_size": -2}, "`per_device_train_batch_size` is -2; it goes from 1 to 1000000"),
        (
            {"per_device_train_batch_size": 10**9},
            "`per_device_train_batch_size` is 1000000000; it goes from 1 to 1000",
        ),
        ({"per_device_eval_batch_size": 10**9}, "`per_device_eval_batch_size` is 1000000000; it goes from 1 to 1000"),
        ({"gradient_accumulation_steps": 10**9}, "`gradient_accumulation_steps` is 1000000000; it goes from 1 to 1"),
        ({"gradient_accumulation_steps": 0}, "`gradient_accumulation_steps` is 0; it goes from 1 to 1000000"),
        ({"accelerator_config": AcceleratorConfig(gradient_accumulation_kwargs={"num_steps": 7})}, "gives '7' as"),
        ({"accelerator_config": AcceleratorConfig(even_batches=False)}, "`even_batches` as 'False', which would give"),
        ({"ddp_timeout": -1}, "`ddp_timeout` is -1; it goes from 1 to 2147483647"),
        ({"num_train_epochs": math.nan}, "`num_train_epochs` is nan; it goes from 0 to 1000000"),
        ({"num_train_epochs": 1e308}, r"`num_train_epochs` is 1e\+308; it goes from 0 to 1000000"),
        ({"data_seed": -5}, "`data_seed` is -5; it goes from 0 to 4294967295"),
        ({"learning_rate": math.nan}, "`learning_rate` is nan; it must be at least 0"),
        ({"adam_beta2": 1.5}, "`adam_beta2` is 1.5; it goes from 0 to 1"),
        ({"average_weights_from_epoch": -1}, "`average_weights_from_epoch` is -1; it must be at least 0"),
    ],
)
def test_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        arguments(**fields)


def test_a_long_text_of_optim_args_is_refused_at_once():
    """Blanks that could be divided in two ways took the square of their number."""
    start = time.process_time()
    with pytest.raises(ValueError, match="it must be of the form name=value,name=value"):
        arguments(optim_args=" " * 200_000 + ",")
    assert time.process_time() - start < 5
    assert arguments(optim_args=" alpha = 0.9, momentum=0.5 ").optim_args == " alpha = 0.9, momentum=0.5 "


def test_what_trains_nothing_or_leaves_a_limit_to_the_other_is_taken():
    args = arguments(num_train_epochs=0, max_steps=-1, learning_rate=0, max_grad_norm=0, warmup_steps=0.1)
    assert (args.num_train_epochs, args.max_steps, args.warmup_steps) == (0, -1, 0.1)


def test_the_defaults_are_the_published_recipe():
    args = arguments()
    assert (args.distillation, args.distillation_weight, args.distillation_alpha) == ("residual", 2.0, 0.1)
    assert (args.learning_rate, args.weight_decay, args.max_grad_norm) == (3.33e-6, 0.01, 1.0)
    assert (args.adam_beta1, args.adam_beta2) == (0.9, 0.999)


def test_the_learning_rate_rises_from_a_hundredth_and_falls_to_a_hundredth(tmp_path):
    trainer = tiny_trainer(tmp_path, max_steps=10, warmup_steps=2, learning_rate=3.33e-6)
    trainer.create_optimizer_and_scheduler(10)
    rates = []
    for _ in range(10):
        rates.append(trainer.lr_scheduler.get_last_lr()[0])
        trainer.optimizer.step()
        trainer.lr_scheduler.step()
    assert rates[0] == pytest.approx(3.33e-8)
    assert max(rates) == rates[1] == pytest.approx(3.33e-6)
    assert rates[-1] == pytest.approx(3.33e-8)


def test_the_command_line_of_transformers_reads_them():
    line = ["--output_dir", "unused", "--distillation", "direct", "--text_chunk_size", "8", "--report_to", "none"]
    line += ["--train_video_options", '{"flip_probability": 0.0}', "--use_cpu"]
    (args,) = HfArgumentParser(FrosterTrainingArguments).parse_args_into_dataclasses(line)
    assert (args.distillation, args.text_chunk_size) == ("direct", 8)
    assert args.train_video_options == {"flip_probability": 0.0}


@pytest.mark.parametrize("distillation", get_args(Distillation))
def test_projectors_that_the_distillation_does_not_have_are_refused(tmp_path, distillation):
    model = tiny_model()
    model.add_distillation_projectors("residual", alpha=0.1)
    if distillation == "residual":
        assert tiny_trainer(tmp_path, model=model).student.distillation_projectors.video.alpha == 0.1
        return
    with pytest.raises(ValueError, match="brings"):
        tiny_trainer(tmp_path, model=model, distillation=distillation)


def test_other_arguments_models_and_losses_are_refused(tmp_path):
    with pytest.raises(TypeError, match="FrosterTrainer needs FrosterTrainingArguments"):
        FrosterTrainer(tiny_model(), TrainingArguments(output_dir=str(tmp_path), report_to="none"))
    with pytest.raises(TypeError, match="trains FrosterForVideoClassification"):
        FrosterTrainer(tiny_clip(), arguments(output_dir=str(tmp_path)), prompts=label_prompts())
    model = tiny_model()
    model.config.problem_type = "multi_label_classification"
    with pytest.raises(ValueError, match="FrosterTrainer trains one label per clip"):
        FrosterTrainer(model, arguments(output_dir=str(tmp_path)), prompts=label_prompts())
    with pytest.raises(ValueError, match="`batch_eval_metrics=True` needs `compute_metrics`"):
        FrosterTrainer(tiny_model(), arguments(batch_eval_metrics=True), prompts=label_prompts())
    with pytest.raises(ValueError, match="`compute_loss_func` is not used"):
        FrosterTrainer(tiny_model(), arguments(), prompts=label_prompts(), compute_loss_func=lambda *_: 0)


def test_pixels_of_all_videos_are_not_kept_for_accuracies_that_do_not_read_them(tmp_path):
    fields = {"include_for_metrics": ["loss", "inputs"], "output_dir": str(tmp_path)}
    for given in ({}, {"compute_metrics": None}):
        with pytest.raises(ValueError, match="`include_for_metrics` names 'inputs', for which the pixels of all"):
            FrosterTrainer(tiny_model(), arguments(**fields), prompts=label_prompts(), **given)
    assert FrosterTrainer(tiny_model(), arguments(**fields), prompts=label_prompts(), compute_metrics=lambda _: {})
    assert tiny_trainer(tmp_path, include_for_metrics=["loss"])


def test_labels_have_to_come_from_somewhere(tmp_path):
    with pytest.raises(ValueError, match="No labels are known"):
        FrosterTrainer(tiny_model(), arguments(output_dir=str(tmp_path)), train_dataset=Arrays())
    with pytest.raises(ValueError, match="pass a FrosterProcessor"):
        FrosterTrainer(tiny_model(), arguments(output_dir=str(tmp_path)), labels=["juggling", "diving"])


def test_a_model_from_model_init_is_prepared_anew_for_every_training(tmp_path):
    trainer = FrosterTrainer(
        args=arguments(output_dir=str(tmp_path), max_steps=1, save_strategy="no", disable_tqdm=True),
        model_init=lambda: tiny_model(),
        train_dataset=Arrays(),
        prompts=label_prompts(),
    )
    trainer.train()
    assert trainer.student.distillation_projectors is not None
    assert trainer.teacher is not None


def test_every_argument_has_a_line_of_help_and_every_form_of_distillation_is_in_it():
    helps = {item.name: item.metadata.get("help") for item in dataclasses.fields(FrosterTrainingArguments)}
    assert [name for name in FrosterTrainingArguments.__annotations__ if not helps.get(name)] == []
    assert all(f"{name}: {form.about}" in helps["distillation"] for name, form in DISTILLATIONS.items())
