"""What a study consists of: worlds, seeds, grids and methods, read from a small YAML file."""

import dataclasses
import math
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ...printing import listing, printable
from ...settings import LONGEST_NAME, check_bounds, override_fields, read_fields, read_named, with_name

# Names of methods become parts of paths, of Markdown tables and of pictures.
METHOD_NAME = re.compile(r"\w[\w ,.+()-]{0,99}")

# Rows of a table, and fine-tunings, each of which takes a minute or more; all are read before the first begins.
MOST_METHODS = 1000
MOST_FINE_TUNINGS = 10_000

# The model that is not trained, which is always measured too.
FROZEN = "frozen"
# What else is measured of a fine-tuned model, at no further training.
Variant = Literal["interpolation", "ensemble", "weight_average"]
VARIANTS: dict[str, str] = {
    "interpolation": "weights half way to the initial CLIP",
    "ensemble": "logits averaged with the frozen model's, at double cost",
    "weight_average": "mean of the weights at the ends of the epochs",
}


@dataclass(frozen=True)
class Method:
    """One way to fine-tune.

    Args:
        overrides: overrides of the study's recipe, as `froster train` takes them.
        grid: values to choose from on the validation world, by name in `GRID_FIELDS`; tried one field after the
            other, in this order, each with the best so far of those before.
        choices_of: the method whose choices are taken over, where there is no grid of its own.
        variants: what else is measured of the fine-tuned model.
    """

    overrides: list[str] = field(default_factory=list)
    grid: dict[str, list[float]] = field(default_factory=dict)
    choices_of: str | None = None
    variants: list[Variant] = field(default_factory=list)


GRID_FIELDS = {
    "learning_rate": "training.learning_rate",
    "beta": "training.distillation_weight",
    "alpha": "training.distillation_alpha",
}


@dataclass(frozen=True)
class StudyPlan:
    """A study, whole.

    Args:
        name: a file's stem.
        about: what it is for, in a sentence.
        pretraining: recipe and overrides of the small CLIP of every world.
        recipe: recipe of the fine-tunings; the methods override it.
        validation_worlds: seeds of the worlds that hyperparameters are chosen on, by the mean over them.
        test_worlds: seeds of the worlds that are reported.
        seeds: seeds of the fine-tunings, in every test world.
        methods: by name; `frozen`, which is not trained, is always measured too.
        reference: method that the others are compared with, pair by pair.
        grid_extensions: where the best value of a grid stands at its edge, how many further values are tried beyond
            it, one after the other, each as far from the last as that is from the one before.
        corrected: whether the intervals of the claims are corrected for the number of claims (Bonferroni).
    """

    name: str
    about: str
    pretraining: list[str]
    recipe: str
    validation_worlds: list[int]
    test_worlds: list[int]
    seeds: list[int]
    methods: dict[str, Method]
    reference: str
    grid_extensions: int = 0
    corrected: bool = False

    def __post_init__(self):
        for name in ("validation_worlds", "test_worlds", "seeds"):
            if not getattr(self, name):
                raise ValueError(f"The plan {self.name}: {name} is []; give a list of whole numbers.")
            if twice := [number for number, count in Counter(getattr(self, name)).items() if count > 1]:
                raise ValueError(f"The plan {self.name}: {name} has {twice[0]} more than once; give each number once.")
        if not self.pretraining:
            raise ValueError(f"The plan {self.name}: pretraining is []; give the name of a recipe, and its overrides.")
        numbers = {
            "seeds": tuple(self.seeds),
            "grid_extensions": self.grid_extensions,
            "the number of methods": len(self.methods),
            "the number of fine-tunings": self.num_fine_tunings,
        }
        bounds = {
            "seeds": (0, 2**32 - 1),
            "grid_extensions": (0, math.inf),
            "the number of methods": (1, MOST_METHODS),
            "the number of fine-tunings": (1, MOST_FINE_TUNINGS),
        }
        check_bounds(numbers, bounds, where=f"The plan {self.name}")
        for world in set(self.validation_worlds) & set(self.test_worlds):
            raise ValueError(f"World {world} cannot be both for validation and for the test.")
        if self.reference not in self.methods:
            raise ValueError(
                f"The plan {self.name}: reference is {_shown(self.reference)}; its methods are "
                f"{listing(self.methods, limit=20)}."
            )
        # Rows of the report beside those of the methods.
        taken = {
            FROZEN,
            *(f"{name} + {variant}" for name, method in self.methods.items() for variant in method.variants),
        }
        folders: dict[str, str] = {}
        for name, method in self.methods.items():
            if (other := folders.setdefault(name.replace(" ", "_").casefold(), name)) != name:
                raise ValueError(
                    f"The plan {self.name}: the methods {_shown(other)} and {_shown(name)} would be done in folders "
                    "of one name; give one of them another."
                )
            if name in taken:
                raise ValueError(
                    f"The plan {self.name}: a method's name is {_shown(name)}, as what is measured beside the methods "
                    f"is called ({listing(sorted(taken), limit=5)}); give it another."
                )
            if not METHOD_NAME.fullmatch(name) or len(name.encode()) > LONGEST_NAME:
                raise ValueError(
                    f"The plan {self.name}: a method's name is {_shown(name)}; it becomes part of paths and tables: "
                    "give a few words, of letters, digits and spaces, in up to 100 characters and "
                    f"{LONGEST_NAME} bytes."
                )
            self._check(name, method)

    def _check(self, name: str, method: Method) -> None:
        where = f"The plan {self.name}, method {name}"
        if unknown := sorted(set(method.grid) - set(GRID_FIELDS)):
            raise ValueError(f"{where}: unknown grid {listing(unknown, limit=5)}; there are {', '.join(GRID_FIELDS)}.")
        if empty := [field for field, values in method.grid.items() if not values]:
            raise ValueError(f"{where}: the grid of {', '.join(empty)} has no values; give at least one.")
        if twice := [field for field, values in method.grid.items() if len(set(values)) < len(values)]:
            raise ValueError(f"{where}: the grid of {', '.join(twice)} has a value twice; give each once.")
        if method.choices_of is None:
            return
        if method.grid:
            raise ValueError(f"{where}: it has a grid of its own and takes over choices; give one of the two.")
        source = self.methods.get(method.choices_of)
        if source is None or source.choices_of is not None:
            own = [other for other, entry in self.methods.items() if entry.choices_of is None]
            raise ValueError(
                f"{where}: choices_of is {_shown(method.choices_of)}; choices are made for {listing(own, limit=20)}."
            )

    @property
    def num_fine_tunings(self) -> int:
        """How many there are at most: of every method in every test world, and for the choices."""
        tested = len(self.methods) * len(self.test_worlds) * len(self.seeds)
        tried = [
            len(values) + self.grid_extensions for method in self.methods.values() for values in method.grid.values()
        ]
        return tested + sum(tried) * len(self.validation_worlds)

    def to_dict(self) -> dict[str, Any]:
        """All fields, as YAML or JSON would hold them."""
        return dataclasses.asdict(self)


def _shown(name: str) -> str:
    return printable(repr(name), limit=200)


def load_plan(plan: str | os.PathLike, overrides: Sequence[str] = ()) -> StudyPlan:
    """A shipped plan by name, or a YAML file; one that says `extends: NAME` changes the fields that it names.

    Args:
        plan: name or path.
        overrides: `field=value`, such as `test_worlds=[7]`. Values are read as YAML.

    Raises:
        ValueError: no such plan, no YAML, an unknown or a missing field, or a value that the field does not take.
    """
    # A plan's methods replace those of the plan that it extends.
    fields = read_named(plan, kind="plan", merge=lambda base, own: {**base, **own})
    return read_fields(StudyPlan, with_name(override_fields(fields, overrides), plan), where=Path(plan).stem)
