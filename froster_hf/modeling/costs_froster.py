"""What a model computes, and holds in memory, by its configuration; and how much of it is taken.

A file of a few megabytes can describe endless work: sizes that are allowed one by one multiply. So what comes out is
held against what published models have, or against the parameters, which the file has to bring along.
"""

from dataclasses import dataclass
from typing import Any

# About those of the largest CLIP that was published.
MAX_PARAMETERS = 20_000_000_000
# Scores of attention of a clip, over layers and heads. ViT-L/14 at 336 pixels that attends to all patches of 64 frames
# at once has 5 * 10^11, 1,500 per parameter.
MAX_SCORES, MAX_SCORES_PER_PARAMETER = 2**34, 4096
# Tokens of a clip, each of which goes through all layers, and products of such tokens and parameters; of 64 frames,
# SigLIP at 512 pixels has 66,000.
MAX_TOKENS, MAX_WORK = 2**18, 2**37
# Numbers of a tensor that is in memory as a whole; of a clip of 64 frames, ViT-L/14 at 336 pixels has 2 * 10^8 in an
# MLP. Clips that would have more together are computed one after the other.
MAX_NUMBERS, MAX_NUMBERS_PER_PARAMETER = 2**26, 2
# Numbers that all layers hold of a clip at once: what blocks keep for a backward pass, so many tensors each, or
# attention that is returned. ViT-L/14 at 336 pixels has 3 * 10^9 of 8 frames, 7 per parameter.
MAX_HELD, MAX_HELD_PER_PARAMETER, KEPT_TENSORS = 2**27, 64, 4
# Scores of attention of one padded text; SigLIP's have 2 * 10^6.
MAX_TEXT_SCORES = 2**28
# Texts that the processor has encoded together.
TEXTS_AT_ONCE = 256
# Clips of a video beyond which each has to be smaller.
FULL_CLIPS = 8

# Of a clip's patches, those that `context_tokens` merges, and the most pairs at a time; TC-CLIP's.
SEED_SHARE, MAX_MERGED = 0.3, 100
# Width of the MLPs of `transformer_cls`, whatever the embedding's; PyTorch's default, which ActionCLIP left.
CLASS_TOKEN_INNER_WIDTH = 2048


@dataclass(frozen=True)
class Costs:
    """What a clip costs, and texts.

    Args:
        config: a [`FrosterConfig`].
        num_frames: T, frames of the clip.
    """

    config: Any
    num_frames: int

    def check(self, *, num_clips: int = 1) -> None:
        """Refuse models that would compute, or hold, far more than any of their size.

        Args:
            num_clips: clips that are computed per video.

        Raises:
            ValueError: there are too many patches, layers, heads, frames or clips, or positions of a text, or a width
                is too large.
        """
        config, text, vision = self.config, self.config.text_config, self.config.vision_config
        clip = f"A clip of {self.num_frames} frames of {patches_of(vision)} patches, {num_clips} of them per video,"
        share = max(1, num_clips / FULL_CLIPS)
        most_scores = max(MAX_SCORES, MAX_SCORES_PER_PARAMETER * estimate_parameters(config))
        most_tokens = max(MAX_TOKENS, MAX_WORK // _layer_parameters(vision))
        positions, padded = text.max_position_embeddings, config.text_length or 0
        for subject, asked, what, most, sizes in (
            (
                clip,
                self.attention_scores,
                "scores of attention",
                most_scores / share,
                "`image_size / patch_size`, `num_attention_heads`, `temporal_radius`, frames or clips",
            ),
            (clip, self.num_tokens, "tokens", most_tokens / share, "`image_size / patch_size`, frames or clips"),
            (
                clip,
                max(self._largest_tensor, num_clips * self.num_frames * config.projection_dim),
                "numbers in a tensor",
                self._most_numbers,
                "`image_size / patch_size`, `hidden_size`, `intermediate_size`, `temporal_radius`, `adapter_size`, "
                "`projection_dim`, `pooling_num_heads`, frames or clips",
            ),
            (
                f"A text, which is padded to {padded} tokens,",
                padded**2 * text.num_hidden_layers * text.num_attention_heads,
                "scores of attention",
                MAX_TEXT_SCORES,
                "In `text_config`, `max_position_embeddings`, layers or heads",
            ),
            (
                f"A batch of {TEXTS_AT_ONCE} texts of {positions} tokens",
                TEXTS_AT_ONCE * positions * _widest(text),
                "numbers in a tensor",
                self._most_numbers,
                "In `text_config`, `max_position_embeddings`, `hidden_size` or `intermediate_size`",
            ),
        ):
            if asked > most:
                raise ValueError(
                    f"{subject} has {asked:.1e} {what}; a model of this size has at most {most:.1e}. {sizes} are far "
                    "too large."
                )

    @property
    def num_tokens(self) -> int:
        """Tokens of the clip."""
        return self.num_frames * (patches_of(self.config.vision_config) + 1)

    @property
    def attention_scores(self) -> int:
        """Scores of attention that the vision tower computes of the clip, over layers and heads."""
        config, vision, module = self.config, self.config.vision_config, self.config.temporal_entries[0]
        # What a token is compared with: all of the clip, those of the frames around, or its own frame's.
        compared = self.num_tokens if module.place == "embeddings" else patches_of(vision) + 1
        compared *= 2 * config.temporal_radius + 1 if module.has_radius else 1
        # Or with those of the same place in all frames, which are counted wherever frames are mixed.
        compared += self.num_frames if module.mixes_frames else 0
        scores = self.num_tokens * compared * vision.num_attention_heads
        if module.hands_on:
            scores += self._seed_pairs * round(self.num_tokens * SEED_SHARE / MAX_MERGED)
        return scores * vision.num_hidden_layers

    @property
    def block_numbers(self) -> int:
        """Numbers of the largest tensor that a block of the vision tower makes of the clip's tokens.

        With the frames of zeros on either side of the clip, whose keys and values are there where frames around are
        attended to.
        """
        vision = self.config.vision_config
        around = 4 * self.config.temporal_radius if self.config.temporal_entries[0].has_radius else 0
        return max(
            self.num_tokens * max(_widest(vision), 2 * _adapter_size(self.config)),
            (3 * self.num_frames + around) * (patches_of(vision) + 1) * vision.hidden_size,
        )

    @property
    def clips_at_once(self) -> int:
        """Clips that are computed together on a CPU, so that their tensors have the size that one clip's may have."""
        return max(1, self._most_numbers // self._largest_tensor)

    def kept_numbers(self, num_layers: float) -> float:
        """Numbers that blocks of the vision tower keep of the clip for a backward pass.

        Args:
            num_layers: how many blocks do.
        """
        return KEPT_TENSORS * num_layers * self.block_numbers

    @property
    def most_held(self) -> int:
        """Numbers that all layers may hold of the clip at once."""
        return max(MAX_HELD, MAX_HELD_PER_PARAMETER * estimate_parameters(self.config))

    @property
    def _most_numbers(self) -> int:
        """Numbers that a tensor may have."""
        return max(MAX_NUMBERS, MAX_NUMBERS_PER_PARAMETER * estimate_parameters(self.config))

    @property
    def _largest_tensor(self) -> int:
        """Numbers of the largest tensor that the vision tower or the pooling has in memory of the clip."""
        config = self.config
        module, pooling = config.temporal_entries
        pairs = self._seed_pairs if module.hands_on else 0
        if "pooling_num_heads" in pooling.fields:
            heads = config.pooling_num_heads or config.text_config.num_attention_heads
            pairs = max(pairs, heads * self.num_frames**2)
        return max(pairs, self.block_numbers, 4 * self.num_frames * config.projection_dim)

    @property
    def _seed_pairs(self) -> int:
        """Pairs of seeds of the clip that `context_tokens` compares: every second one with each of the others."""
        return round(self.num_tokens * SEED_SHARE / 2) ** 2


def estimate_parameters(config: Any) -> int:
    """Their number, at most a little too high: of what the configuration has, not of all that it says.

    Args:
        config: a [`FrosterConfig`].
    """
    text, vision, width = config.text_config, config.vision_config, config.projection_dim
    times, poolings_times = (config.num_frames * entry.fixed_frames for entry in config.temporal_entries)
    tables = [
        (patches_of(vision) + times + vision.num_channels * vision.patch_size**2, vision.hidden_size),
        (text.vocab_size + text.max_position_embeddings, text.hidden_size),
        (vision.hidden_size + text.hidden_size + poolings_times + len(config.id2label), width),
    ]
    layers = _layer_parameters(vision) + _layer_parameters(text)
    adapters = vision.num_hidden_layers * 6 * vision.hidden_size * _adapter_size(config)
    pooling = 0
    if "pooling_num_layers" in config.temporal_entries[1].fields:
        pooling = config.pooling_num_layers * width * (4 * width + 2 * max(4 * width, CLASS_TOKEN_INNER_WIDTH))
    return sum(rows * columns for rows, columns in tables) + layers + adapters + pooling


def patches_of(vision: Any) -> int:
    """Patches of a frame.

    Args:
        vision: configuration of the vision tower.
    """
    return (vision.image_size // vision.patch_size) ** 2


def _layer_parameters(tower: Any) -> int:
    """Parameters of a tower's layers."""
    return tower.num_hidden_layers * tower.hidden_size * (4 * tower.hidden_size + 2 * tower.intermediate_size)


def _widest(tower: Any) -> int:
    """Numbers of a token in the widest tensor of a block: queries, keys and values, or the inner ones of its MLP."""
    return max(3 * tower.hidden_size, tower.intermediate_size)


def _adapter_size(config: Any) -> int:
    """The width of the adapters, where there are some that may be wider than published ones."""
    return (config.adapter_size or 0) if "adapter_size" in config.temporal_entries[0].fields else 0
