"""A recipe, run: model, processor, data and arguments of it, a `FrosterTrainer`, and the model saved at the end."""

from pathlib import Path

import torch
from transformers import PreTrainedConfig

from ..modeling.modeling_froster import FrosterForVideoClassification
from ..processing.label_files import read_descriptions
from ..processing.processing_froster import FrosterProcessor
from .arguments import FrosterTrainingArguments
from .recipe_data import read_recipe_data
from .recipes import Recipe, RecipeModel
from .trainer import FrosterTrainer


def train_recipe(recipe: Recipe, *, resume: bool = False) -> FrosterTrainer:
    """Trains, evaluates where the recipe has data for it, and saves the model for inference in `output_dir/model`.

    Args:
        recipe: see [`load_recipe`].
        resume: go on from the newest sound checkpoint of `output_dir`.

    Returns:
        The Trainer, with what it logged in `trainer.state.log_history`.
    """
    trainer = build_trainer(recipe)
    if trainer.args.num_train_epochs > 0:
        trainer.train(resume_from_checkpoint=resume or None)
    if trainer.eval_dataset:
        trainer.save_metrics("eval", trainer.evaluate())
    trainer.save_model(str(Path(str(trainer.args.output_dir)) / "model"))
    return trainer


def build_trainer(recipe: Recipe) -> FrosterTrainer:
    """The Trainer of a recipe, ready to train."""
    model, processor = build_model(recipe.model)
    train, evaluation = read_recipe_data(recipe.data, recipe.world)
    if recipe.data.descriptions is not None:
        processor.label_descriptions = read_descriptions(recipe.data.descriptions)
    return FrosterTrainer(
        model,
        training_arguments(recipe),
        train_dataset=train,
        eval_dataset=evaluation or None,
        processing_class=processor,
    )


def build_model(recipe: RecipeModel) -> tuple[FrosterForVideoClassification, FrosterProcessor]:
    """Model and processor from a CLIP or a FROSTER checkpoint.

    Raises:
        ValueError: the checkpoint is a path, and nothing is there.
    """
    # A name on the Hub has one slash; what has more, or begins as a path does, is meant to be one.
    looks_like_path = recipe.checkpoint.startswith((".", "/", "~")) or recipe.checkpoint.count("/") > 1
    if looks_like_path and not Path(recipe.checkpoint).exists():
        raise ValueError(
            f"There is no checkpoint in {recipe.checkpoint}. Train or download it first, or give another one with "
            "model.checkpoint=FOLDER."
        )
    config, _ = PreTrainedConfig.get_config_dict(recipe.checkpoint)
    if config.get("model_type") == "froster":
        return (
            FrosterForVideoClassification.from_pretrained(recipe.checkpoint),
            FrosterProcessor.from_pretrained(recipe.checkpoint),
        )
    fields = ("temporal_module", "temporal_radius", "temporal_pooling", "num_frames", "adapter_size")
    model = FrosterForVideoClassification.from_clip(
        recipe.checkpoint, **{name: getattr(recipe, name) for name in fields}
    )
    video_options = {name: getattr(recipe, name) for name in ("num_frames", "sampling", "frame_stride")}
    processor = FrosterProcessor.from_clip(
        recipe.checkpoint, prompt_templates=recipe.prompt_templates, video_options=video_options
    )
    return model, processor


def training_arguments(recipe: Recipe) -> FrosterTrainingArguments:
    """The arguments of a recipe on this machine: accumulation and precision are worked out.

    Raises:
        ValueError: the total batch size is no multiple of what the processes take at once.
    """
    fields = {"per_device_train_batch_size": 8, **recipe.training}
    output_dir = recipe.output_dir or str(Path("runs") / recipe.name)
    has_bfloat16 = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    if recipe.precision == "bf16" or (recipe.precision == "auto" and has_bfloat16):
        fields["bf16"] = True
    elif recipe.precision == "fp16":
        fields["fp16"] = True
    epochs = fields.get("num_train_epochs", 3.0)
    if recipe.warmup_epochs and epochs:
        # A share of all steps.
        fields.setdefault("warmup_steps", recipe.warmup_epochs / epochs)
    args = FrosterTrainingArguments(output_dir=output_dir, **fields)
    at_once = args.train_batch_size * args.world_size
    if recipe.total_batch_size % at_once:
        raise ValueError(
            f"`total_batch_size` is {recipe.total_batch_size}, but {args.world_size} process(es) take {at_once} clips "
            "at once: change training.per_device_train_batch_size so that it divides, or total_batch_size."
        )
    args.gradient_accumulation_steps = recipe.total_batch_size // at_once
    return args
