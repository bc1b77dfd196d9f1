"""A pre-training recipe, run: its tokenizer, model and stills, a `ClipPretrainer`, a CLIP repository at the end."""

import json
from typing import Any

from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer, TrainingArguments, set_seed

from ...machine_memory import FLOAT_BYTES, frame_tokens, refuse_beyond_memory, tower_bytes
from ...training.batch_memory import num_ahead
from ...training.checkpointing import MODEL_NAME, RESULTS_NAME, refuse_run, run_alone_in
from ...training.log_lines import show_lines
from ...training.losses import refuse_nonfinite_weights
from ...training.recipes import output_folder
from ...training.run_identity import RunIdentity, argument_identity
from ...training.whole_folders import replaced_folder
from ...whole_files import check_writable, write_text_whole
from ..tokenizer import moving_shapes_texts, train_tokenizer
from .recipe import CAPTION_TOKENS, PretrainingRecipe, RecipeArchitecture
from .stills import HeldOutStills, StillBatches
from .trainer import LOSS_BYTES, ClipPretrainer


def pretrain(recipe: PretrainingRecipe, *, resume: bool = False, overwrite: bool = False) -> ClipPretrainer:
    """Trains, measures the accuracy on held-out stills, and saves a CLIP repository in `output_dir/model`.

    The folder is what `CLIPModel`, `CLIPProcessor` and the `from_clip` of FROSTER's model and processor load.

    Args:
        recipe: see [`load_recipe`].
        resume: go on from the newest sound checkpoint of `output_dir`.
        overwrite: delete the run that is in `output_dir`.

    Returns:
        The Trainer, with what it logged in `trainer.state.log_history`.

    Raises:
        RunExistsError: there is a run in `output_dir`, and neither of the two was asked for.
        ValueError: another run is at work in `output_dir`.
        OSError: nothing can be written to `output_dir`.
        NonFiniteError: weights of the trained model, or its scores of the held-out stills, are not finite.
    """
    folder = output_folder(recipe)
    check_writable(folder)
    if not (resume or overwrite):
        refuse_run(folder, of_recipe=True)
    trainer = build_pretrainer(recipe)
    with run_alone_in(folder, resume=resume, overwrite=overwrite):
        trainer.train(resume_from_checkpoint=resume or None)
        # Before anything is measured with them.
        refuse_nonfinite_weights(trainer.clip)
        write_text_whole(folder / RESULTS_NAME, json.dumps(trainer.evaluate(), indent=4, sort_keys=True))
        # Not `save_model`, which adds pickled arguments to what others load.
        with replaced_folder(folder / MODEL_NAME) as model:
            for part in (trainer.clip, trainer.tokenizer, image_processor(recipe.model.image_size)):
                part.save_pretrained(model)
    return trainer


def build_pretrainer(recipe: PretrainingRecipe) -> ClipPretrainer:
    """The Trainer of a recipe, ready to train."""
    tokenizer = train_tokenizer(moving_shapes_texts(recipe.seed), vocab_size=recipe.model.vocab_size)
    set_seed(recipe.seed)
    args = pretraining_arguments(recipe)
    clip = build_clip(recipe.model, tokenizer)
    _refuse_beyond_memory(recipe, clip, args)
    trainer = ClipPretrainer(
        clip,
        args,
        batches=StillBatches(
            tokenizer,
            steps=recipe.steps,
            batch_size=recipe.batch_size,
            resolution=recipe.model.image_size,
            seed=recipe.seed,
            stills=recipe.stills,
        ),
        held_out=HeldOutStills.draw(recipe.seed, recipe.num_eval_stills, resolution=recipe.model.image_size),
        tokenizer=tokenizer,
        muon_learning_rate=recipe.muon_learning_rate,
        callbacks=[RunIdentity(lambda: _identity(recipe, args))],
    )
    show_lines(trainer)
    return trainer


def _refuse_beyond_memory(recipe: PretrainingRecipe, clip: CLIPModel, args: TrainingArguments) -> None:
    """Raise where the stills that are held at one time do not fit into the memory of the machine.

    Raises:
        ValueError: names the numbers, what they take at least, and what there is.
    """
    vision: Any = clip.config.vision_config
    text: Any = clip.config.text_config
    num_batches, num_pairs = min(1 + num_ahead(args), recipe.steps), recipe.batch_size**2
    pixel_values = 3 * vision.image_size**2
    # With a byte for each still and caption: whether they match.
    num_bytes = float(num_batches * (recipe.batch_size * pixel_values * FLOAT_BYTES + num_pairs))
    num_bytes += recipe.num_eval_stills * pixel_values
    if args.device.type == "cpu":
        # The gradients, and one average of them: AdamW has two, Muon one.
        num_bytes += 2 * clip.num_parameters() * FLOAT_BYTES
        for tower, num_tokens in ((vision, frame_tokens(vision)), (text, CAPTION_TOKENS)):
            num_bytes += tower_bytes(tower, recipe.batch_size * num_tokens, kept_layers=tower.num_hidden_layers)
        num_bytes += num_pairs * LOSS_BYTES
    refuse_beyond_memory(
        num_bytes,
        f"A batch of {recipe.batch_size:,} stills, {num_batches:,} such batches in memory,",
        advice="Lower `batch_size`, `num_eval_stills`, sizes of `model`, `dataloader_num_workers` or "
        "`dataloader_prefetch_factor`.",
    )


def build_clip(architecture: RecipeArchitecture, tokenizer: CLIPTokenizer) -> CLIPModel:
    """A CLIP model with random weights; the caller seeds."""
    width = architecture.hidden_size
    tower = {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_attention_heads": architecture.num_attention_heads,
        "projection_dim": architecture.projection_dim,
        "hidden_act": "gelu",
    }
    vision = {
        "num_hidden_layers": architecture.num_vision_layers,
        "image_size": architecture.image_size,
        "patch_size": architecture.patch_size,
        "initializer_range": architecture.initializer_range,
    }
    text = {
        "num_hidden_layers": architecture.num_text_layers,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": tokenizer.model_max_length,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    return CLIPModel(
        CLIPConfig(text_config=tower | text, vision_config=tower | vision, projection_dim=architecture.projection_dim)
    )


def image_processor(side: int) -> CLIPImageProcessor:
    """CLIP's, for square pictures of this side."""
    return CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side})


def pretraining_arguments(recipe: PretrainingRecipe) -> TrainingArguments:
    """The Trainer's arguments of a recipe."""
    return TrainingArguments(
        output_dir=str(output_folder(recipe)),
        seed=recipe.seed,
        max_steps=recipe.steps,
        # An item of the data is the whole batch of its step.
        per_device_train_batch_size=1,
        train_sampling_strategy="sequential",
        remove_unused_columns=False,
        **recipe.training,
    )


def _identity(recipe: PretrainingRecipe, args: TrainingArguments) -> dict[str, Any]:
    """What has to be the same when a run is resumed."""
    fields = recipe.to_dict()
    for name in ("name", "about", "output_dir", "training", "num_eval_stills"):
        del fields[name]
    return {"recipe": fields, "arguments": argument_identity(args)}
