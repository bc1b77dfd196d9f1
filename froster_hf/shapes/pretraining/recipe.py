"""The recipe of a contrastive pre-training (`kind: pretraining`): all that decides what comes out of it."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal, get_type_hints

from transformers import TrainingArguments

from ...machine_memory import frame_tokens
from ...modeling.configuration_froster import TOWER_SIZE_LIMITS
from ...settings import check_bounds, check_fields
from ...training.arguments import check_arguments
from ...training.recipes import argument_hints
from ..tokenizer import MAX_TOKENS

# Said once, elsewhere in the recipe or by `--resume`, or settled by how the training works.
RESERVED_ARGUMENTS = (
    "output_dir",
    "seed",
    "data_seed",
    "max_steps",
    "num_train_epochs",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "train_sampling_strategy",
    "remove_unused_columns",
    "resume_from_checkpoint",
)

# Of a batch of stills, in gigabytes of single precision: 3; and of all that the accuracy is measured on.
MOST_PIXELS = 2**28
# With gradients and the state of an optimizer, 4 GB; CLIP's ViT-B/16 has 150 million.
MOST_WEIGHTS = 2**28
# A batch of 256 has 0.5 billion in the layers of CLIP's ViT-B/16.
MOST_HIDDEN_VALUES = 2**30
# Tokens to which the captions of a batch are padded, by the tokenizer of a thousand tokens.
CAPTION_TOKENS = 24
# Of the largest product of a step, in multiplications: a backward pass stops for Ctrl-C between two of them, and this
# one takes it 40 seconds on one core of 50 gigaflops. A batch of 256 has 10^11 in CLIP's ViT-B/16.
MOST_MULTIPLICATIONS = 2**39
# Least and most of a recipe's numbers.
_BOUNDS = {
    "seed": (0, 2**32 - 1),
    "steps": (1, 10**8),
    # CLIP's. Every still is compared with every caption.
    "batch_size": (2, 2**15),
    "num_eval_stills": (1, 10**5),
    "muon_learning_rate": (0, 10**6),
}


@dataclass(frozen=True)
class RecipeArchitecture:
    """A CLIP model with two towers of the same width.

    Args:
        image_size: S, side of the pictures in pixels.
        patch_size: side of a patch in pixels.
        hidden_size: W, width of both towers.
        num_attention_heads: heads of a layer.
        num_vision_layers: layers of the vision tower.
        num_text_layers: layers of the text tower.
        projection_dim: D, width of the joint embedding.
        vocab_size: tokens of the tokenizer, which is learned from captions.
        initializer_range: spread of the first patch and position embeddings. With CLIP's 0.02 the places of the
            patches, and so shapes, are learned later.
    """

    image_size: int = 32
    patch_size: int = 8
    hidden_size: int = 128
    num_attention_heads: int = 2
    num_vision_layers: int = 4
    num_text_layers: int = 2
    projection_dim: int = 128
    vocab_size: int = 1024
    initializer_range: float = 0.2

    def __post_init__(self):
        bounds: dict[str, tuple[float, float]] = dict.fromkeys(vars(self), (1, 2**14))
        bounds |= {"num_vision_layers": (1, 128), "num_text_layers": (1, 128), "vocab_size": (1, 10**6)}
        # Stills are drawn before a tower is asked whether it takes them.
        bounds |= {name: TOWER_SIZE_LIMITS[name] for name in ("image_size", "patch_size")}
        check_bounds(vars(self), bounds | {"initializer_range": (1e-6, 2**14)}, where="model")
        if (count := self.num_weights) > MOST_WEIGHTS:
            raise ValueError(
                f"model: its layers and embeddings have {count:,} weights; at most {MOST_WEIGHTS:,} have."
            )

    @property
    def num_weights(self) -> int:
        """Of matrices and embeddings."""
        layers = 12 * self.hidden_size * (self.num_vision_layers + self.num_text_layers)
        embeddings = self.vocab_size + frame_tokens(self) + 3 * self.patch_size**2 + 2 * self.projection_dim
        return self.hidden_size * (layers + embeddings)

    def hidden_values(self, batch_size: int) -> int:
        """What all layers say of the patches and captions of a batch."""
        tokens = self.num_vision_layers * frame_tokens(self) + self.num_text_layers * CAPTION_TOKENS
        return batch_size * self.hidden_size * tokens

    def largest_product(self, batch_size: int) -> int:
        """Multiplications of the largest operation of a step, forward.

        That of an MLP; the attention of a layer, whose backward pass has two and a half times as many, in smaller
        pieces, and whose exponentials are what takes time where heads are narrow; that of the patches, of the
        embeddings, or of the pairs of stills and captions.
        """
        patches, width = frame_tokens(self), self.hidden_size
        tokens = max(patches + 1, MAX_TOKENS)
        attended = 4 * tokens * max(width, 64 * self.num_attention_heads)
        return batch_size * max(
            tokens * max(4 * width**2, attended),
            patches * 3 * self.patch_size**2 * width,
            (width + batch_size) * self.projection_dim,
        )


@dataclass(frozen=True)
class RecipeStills:
    """What the stills show.

    Args:
        second_object_rate: share of the stills with a second object.
        trail_rate: share of the stills in which motions leave trails: they are what motion words are learned from.
        ramp: share of the steps in which the world becomes as varied as this, from single large objects in the middle.
            0 begins with the whole world.
    """

    second_object_rate: float = 0.2
    trail_rate: float = 0.5
    ramp: float = 0.35

    def __post_init__(self):
        check_bounds(vars(self), dict.fromkeys(vars(self), (0, 1)), where="stills")


@dataclass(frozen=True)
class PretrainingRecipe:
    """A contrastive pre-training on stills of the moving-shapes world, whole.

    Args:
        name: a file's stem.
        about: what comes out of it.
        kind: tells it from the recipes of fine-tuning.
        model: see [`RecipeArchitecture`].
        stills: see [`RecipeStills`].
        seed: seed of the weights, the tokenizer, the stills and their captions.
        steps: optimizer steps.
        batch_size: B, stills and captions of a step.
        num_eval_stills: held-out stills that the accuracy is measured on.
        muon_learning_rate: for the matrices inside the layers, trained with Muon; `training.learning_rate` is for all
            else, trained with AdamW.
        training: further fields of [`transformers.TrainingArguments`].
        output_dir: where the run and its model are written; `runs/<name>` by default.
    """

    name: str
    about: str
    kind: Literal["pretraining"] = "pretraining"
    model: RecipeArchitecture = field(default_factory=RecipeArchitecture)
    stills: RecipeStills = field(default_factory=RecipeStills)
    seed: int = 0
    steps: int = 3000
    batch_size: int = 64
    num_eval_stills: int = 1200
    muon_learning_rate: float = 4e-3
    training: dict[str, Any] = field(default_factory=dict)
    output_dir: str | None = None

    def __post_init__(self):
        hints = argument_hints(TrainingArguments, reserved=RESERVED_ARGUMENTS)
        check_fields(self.training, hints, where=f"{self.name}, training")
        check_arguments(self.training)
        hints = get_type_hints(type(self))
        check_fields({name: getattr(self, name) for name in _BOUNDS}, hints, where=self.name)
        check_bounds(vars(self), _BOUNDS, where=self.name)
        for stills, count in (("a batch has", self.batch_size), ("the held-out stills have", self.num_eval_stills)):
            if (num_pixels := count * self.model.image_size**2) > MOST_PIXELS:
                raise ValueError(f"{self.name}: {stills} {num_pixels:,} pixels; at most {MOST_PIXELS:,} are rendered.")
        for asked, what, most in (
            (self.model.hidden_values(self.batch_size), "values of patches and captions", MOST_HIDDEN_VALUES),
            (self.model.largest_product(self.batch_size), "multiplications in one product", MOST_MULTIPLICATIONS),
        ):
            if asked > most:
                raise ValueError(
                    f"{self.name}: a step of this model has {asked:,} {what}; at most {most:,} are computed. Lower "
                    "`batch_size`, `model.image_size / model.patch_size`, widths, heads or layers."
                )

    def to_dict(self) -> dict[str, Any]:
        """All fields, with their defaults, as YAML would hold them."""
        return dataclasses.asdict(self)
