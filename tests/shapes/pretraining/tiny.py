"""A pre-training of a second: a recipe, and the Trainer's settings that keep it quiet."""

from froster_hf.shapes.pretraining import PretrainingRecipe
from froster_hf.training.recipes import load_recipe

TINY = (
    "model.image_size=16",
    "model.patch_size=8",
    "model.hidden_size=32",
    "model.num_vision_layers=1",
    "model.num_text_layers=1",
    "model.projection_dim=16",
    "model.vocab_size=600",
    "batch_size=8",
    "num_eval_stills=120",
    "training.use_cpu=true",
    "training.disable_tqdm=true",
    "training.dataloader_num_workers=0",
    "training.eval_strategy='no'",
    "training.logging_steps=1",
)


def tiny_recipe(output_dir, *overrides: str) -> PretrainingRecipe:
    return load_recipe("small_clip", [*TINY, f"output_dir={output_dir}", *overrides])
