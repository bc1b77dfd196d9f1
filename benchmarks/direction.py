"""Forward or backward? Temporal modules that start as FROSTER's local attention, trained on opposite motions.

    OMP_NUM_THREADS=1 python benchmarks/direction.py --clip CLIP                     # every candidate, one seed
    OMP_NUM_THREADS=1 python benchmarks/direction.py --clip CLIP --seeds 0 1 2 --candidates local_attention \
        directional_attention

CLIP is the folder of a small CLIP of the moving-shapes world (`froster train small_clip`). A seed draws base and
novel classes of `split_base_novel` (appearances are new, motions are not) with motions that have an opposite, and adds
every class's opposite. A candidate is fine-tuned on base clips with cross-entropy and residual distillation, then
shown fresh clips without trails. Direction: each clip and its reversal, between the two opposite labels of its
appearance; a module that does not know time's arrow gives both the same answer, which is right for exactly one.
Circling: direction of the clips that circle, which move nowhere on the whole. Label: among all labels of the side.
Time: forward and backward pass of one block of ViT-B/16's size on 8 frames, in turns with local attention's.

What was not chosen lives here only.
"""

import argparse
import statistics
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPTokenizer, CLIPVisionConfig
from transformers.models.clip.modeling_clip import CLIPEncoderLayer
from transformers.utils.constants import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from froster_hf import FrosterConfig, FrosterForVideoClassification
from froster_hf.modeling.temporal_froster import (
    DirectionalAttention,
    LocalAttention,
    on_backbone,
    temporal_difference,
    temporal_windows,
)
from froster_hf.shapes import MovingShape, draw_scenes, render_clips, split_base_novel
from froster_hf.shapes.study.jobs import direction_accuracy
from froster_hf.training.distillation import FeatureDistillation, begin_distillation
from froster_hf.training.losses import LossPart, cross_entropy_loss, total_loss
from froster_hf.training.student import decay_parameter_names
from froster_hf.training.teacher import FrozenTeacher

MOTIONS = (
    "sliding left",
    "sliding right",
    "sliding up",
    "sliding down",
    "growing",
    "shrinking",
    "circling clockwise",
    "circling counterclockwise",
)


def zeros(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.zeros(*shape))


def scaled(parameter: Tensor) -> Tensor:
    """What starts at zero takes the same enlarged steps in every candidate."""
    return DirectionalAttention.gate_scale * parameter


def difference(tokens: Tensor, num_frames: int) -> Tensor:
    """(B*T, N, W) to the same."""
    return temporal_difference(tokens.unflatten(0, (-1, num_frames))).flatten(0, 1)


class Candidate(LocalAttention):
    """Local attention written openly, so that each step can be changed."""

    def queries_keys_values(self, tokens: Tensor, num_frames: int) -> tuple[Tensor, Tensor, Tensor]:
        """(B*T, N, W) each."""
        return self.q_proj(tokens), self.k_proj(tokens), self.v_proj(tokens)

    def windows(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """(B, H, T, N, d) to (B, H, T, (2r+1)*N, d)."""
        return temporal_windows(keys, self.radius), temporal_windows(values, self.radius)

    def score_bias(self, num_tokens: int, batch_size: int) -> Tensor | None:
        """(B*H, 1, 1, (2r+1)*N)."""
        return None

    def forward(self, hidden_states, attention_mask=None, *, num_frames, **kwargs):
        def split(projected: Tensor) -> Tensor:
            return projected.unflatten(0, (-1, num_frames)).unflatten(-1, (-1, self.head_dim)).permute(0, 3, 1, 2, 4)

        num_tokens = hidden_states.shape[1]
        queries, keys, values = (split(x) for x in self.queries_keys_values(hidden_states, num_frames))
        keys, values = self.windows(keys, values)
        output = F.scaled_dot_product_attention(
            queries.flatten(0, 1),
            keys.flatten(0, 1),
            values.flatten(0, 1),
            attn_mask=self.score_bias(num_tokens, queries.shape[0]),
        )
        output = output.unflatten(0, (-1, self.num_heads)).permute(0, 2, 3, 1, 4)
        return self.out_proj(output.reshape(-1, num_tokens, self.embed_dim)), None


class ScoreBias(Candidate):
    """A bias a head and frame offset on the scores."""

    def __init__(self, config: CLIPVisionConfig, temporal: FrosterConfig):
        super().__init__(config, temporal)
        self.offset_bias = zeros(self.num_heads, 2 * self.radius + 1)

    def score_bias(self, num_tokens, batch_size):
        bias = scaled(self.offset_bias).repeat_interleave(num_tokens, dim=1)
        return bias.repeat(batch_size, 1)[:, None, None]


class OffsetEmbeddings(Candidate):
    """An embedding a frame offset, added to the keys and to the values of that frame; the windows become copies."""

    def __init__(self, config: CLIPVisionConfig, temporal: FrosterConfig):
        super().__init__(config, temporal)
        self.offset_key = zeros(self.num_heads, 2 * self.radius + 1, self.head_dim)
        self.offset_value = zeros(self.num_heads, 2 * self.radius + 1, self.head_dim)

    def windows(self, keys, values):
        num_tokens = keys.shape[-2]
        keys, values = super().windows(keys, values)
        embeddings = (
            scaled(embedding).repeat_interleave(num_tokens, dim=1)[:, None]
            for embedding in (self.offset_key, self.offset_value)
        )
        return tuple(x + embedding for x, embedding in zip((keys, values), embeddings))


class GatedKeysValues(Candidate):
    """The temporal difference of keys and of values, behind a gate a channel each."""

    def __init__(self, config: CLIPVisionConfig, temporal: FrosterConfig):
        super().__init__(config, temporal)
        self.key_gate, self.value_gate = zeros(self.embed_dim), zeros(self.embed_dim)

    def queries_keys_values(self, tokens, num_frames):
        queries, keys, values = super().queries_keys_values(tokens, num_frames)
        keys = keys + scaled(self.key_gate) * difference(keys, num_frames)
        return queries, keys, values + scaled(self.value_gate) * difference(values, num_frames)


class GatedBlockInput(Candidate):
    """The temporal difference of what queries, keys and values are made from, behind a gate a channel."""

    def __init__(self, config: CLIPVisionConfig, temporal: FrosterConfig):
        super().__init__(config, temporal)
        self.motion_gate = zeros(self.embed_dim)

    def queries_keys_values(self, tokens, num_frames):
        return super().queries_keys_values(
            tokens + scaled(self.motion_gate) * difference(tokens, num_frames), num_frames
        )


class LowRankBlockInput(Candidate):
    """The temporal difference of what queries, keys and values are made from, through a bottleneck of 8."""

    def __init__(self, config: CLIPVisionConfig, temporal: FrosterConfig):
        super().__init__(config, temporal)
        self.motion_down = nn.Parameter(torch.randn(8, self.embed_dim) * self.embed_dim**-0.5)
        self.motion_up = zeros(self.embed_dim, 8)

    def queries_keys_values(self, tokens, num_frames):
        motion = F.linear(F.linear(difference(tokens, num_frames), self.motion_down), scaled(self.motion_up))
        return super().queries_keys_values(tokens + motion, num_frames)


class LowRankContext(LowRankBlockInput):
    """The same, read by keys and values only."""

    def queries_keys_values(self, tokens, num_frames):
        _, keys, values = super().queries_keys_values(tokens, num_frames)
        return self.q_proj(tokens), keys, values


CANDIDATES: dict[str, type[LocalAttention]] = {
    "local_attention": LocalAttention,
    "score bias": ScoreBias,
    "offset embeddings": OffsetEmbeddings,
    "gated keys and values": GatedKeysValues,
    "gated block input": GatedBlockInput,
    "low-rank block input": LowRankBlockInput,
    "low-rank context": LowRankContext,
    "directional_attention": DirectionalAttention,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip", required=True, help="folder of a small CLIP with its tokenizer")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--candidates", nargs="+", choices=CANDIDATES, default=list(CANDIDATES))
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--frames", type=int, default=4)
    parser.add_argument("--classes", type=int, default=24, help="a side, before their opposites are added")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--beta", type=float, default=2.0, help="weight of the distillation")
    parser.add_argument("--gate-scale", type=float, default=DirectionalAttention.gate_scale)
    options = parser.parse_args()
    DirectionalAttention.gate_scale = options.gate_scale
    print(
        f"{options.steps} steps of 16 clips of {options.frames} frames, learning rate {options.learning_rate:g}, "
        f"seeds {' '.join(map(str, options.seeds))}; means over seeds, in brackets every seed\n"
    )
    print("| module | parameters, W = 768 | time | direction, base | novel | circling, novel | label, base | novel |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name in options.candidates:
        added, ratio = cost(CANDIDATES[name])
        results = [train_and_measure(CANDIDATES[name], seed, options) for seed in options.seeds]
        cells = [percent([result[key] for result in results]) for key in results[0]]
        print(f"| {name} | {added:,} | {ratio:.2f} | {' | '.join(cells)} |", flush=True)


def percent(shares: list[float]) -> str:
    each = " ".join(f"{100 * share:.1f}" for share in shares)
    return each if len(shares) == 1 else f"{100 * statistics.mean(shares):.1f} ({each})"


def cost(attention: type[LocalAttention], *, rounds: int = 7, num_frames: int = 8) -> tuple[int, float]:
    """Parameters added to a block of ViT-B/16, and its time over that of a block with local attention."""
    config = CLIPVisionConfig(patch_size=16)
    config._attn_implementation = "sdpa"
    blocks = []
    for kind in (LocalAttention, attention):
        block = CLIPEncoderLayer(config)
        block.self_attn = on_backbone(kind, type(block.self_attn))(config, FrosterConfig())
        blocks.append(block)
    sizes = [sum(parameter.numel() for parameter in block.parameters()) for block in blocks]
    tokens = torch.randn(num_frames, 197, config.hidden_size)

    def seconds(block: nn.Module) -> float:
        start = time.process_time()
        block(tokens, None, num_frames=num_frames).sum().backward()
        return time.process_time() - start

    pairs = [[seconds(block) for block in blocks] for _ in range(rounds + 1)][1:]
    return sizes[1] - sizes[0], statistics.median(ours / local for local, ours in pairs)


def train_and_measure(attention: type[LocalAttention], seed: int, options: argparse.Namespace) -> dict[str, float]:
    """Accuracies on clips of base and novel classes after training on base classes."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    split = split_base_novel(rng, classes_per_side=options.classes, motions=MOTIONS)
    base, novel = (sorted({*side, *(one.opposite for one in side)}) for side in split)
    tokenizer = CLIPTokenizer.from_pretrained(options.clip)
    model = FrosterForVideoClassification.from_clip(options.clip, temporal_module="local_attention")
    teacher = FrozenTeacher.from_student(model)
    for layer in model.froster.vision_model.encoder.layers:
        weights = layer.self_attn.state_dict()
        base = next(kind for kind in type(layer.self_attn).__mro__ if kind.__module__.startswith("transformers."))
        layer.self_attn = on_backbone(attention, base)(model.config.vision_config, model.config)
        layer.self_attn.load_state_dict(weights, strict=False)
    distillation = begin_distillation(
        model, distillation="residual", teacher=teacher, target="both", alpha=0.1, weight=options.beta
    )
    train(model, distillation, base, encode(tokenizer, base), rng, options)
    results = [
        measure(model, side, encode(tokenizer, side), np.random.default_rng([seed, 1]), options)
        for side in (base, novel)
    ]
    base_result, novel_result = results
    return {
        "direction, base": base_result["direction"],
        "direction, novel": novel_result["direction"],
        "circling, novel": novel_result["circling"],
        "label, base": base_result["label"],
        "label, novel": novel_result["label"],
    }


def train(
    model: FrosterForVideoClassification,
    distillation: FeatureDistillation,
    classes: list[MovingShape],
    input_ids: Tensor,
    rng: np.random.Generator,
    options: argparse.Namespace,
) -> None:
    """FROSTER's objective, AdamW, a warm-up of 20 steps and a cosine to zero."""
    decaying = set(decay_parameter_names(model))
    groups = [
        {"params": [p for name, p in model.named_parameters() if (name in decaying) == decays], "weight_decay": decay}
        for decays, decay in ((True, 0.01), (False, 0.0))
    ]
    optimizer = torch.optim.AdamW(groups, lr=options.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / 20, 0.5 + 0.5 * np.cos(np.pi * step / options.steps))
    )
    teacher_texts = distillation.teacher.embed_texts(input_ids)
    model.train()
    for _ in range(options.steps):
        labels = torch.from_numpy(rng.choice(len(classes), 16))
        clips = draw_clips(rng, [classes[label] for label in labels], options.frames)
        outputs = model(clips, input_ids=input_ids)
        parts = {"ce": LossPart(cross_entropy_loss(outputs.logits, labels))}
        parts |= distillation.parts(outputs, clips=clips, labels=labels, teacher_texts=teacher_texts)
        optimizer.zero_grad()
        total_loss(parts).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()


@torch.no_grad()
def measure(
    model: FrosterForVideoClassification,
    classes: list[MovingShape],
    input_ids: Tensor,
    rng: np.random.Generator,
    options: argparse.Namespace,
) -> dict[str, float]:
    """Direction over clips and their reversals, of all and of those that circle; label over the clips."""
    model.eval()
    own = np.tile(np.arange(len(classes)), 8)
    opposite = np.array([classes.index(one.opposite) for one in classes])[own]
    clips = draw_clips(rng, [classes[label] for label in own], options.frames)
    text_embeds = model.froster.get_label_embeds(input_ids)
    forward, backward = (
        torch.cat([model(part, text_embeds=text_embeds).logits for part in way.split(64)]).numpy()
        for way in (clips, clips.flip(1))
    )

    def direction(rows: np.ndarray | slice) -> float:
        return direction_accuracy(forward[rows], backward[rows], own=own[rows], opposite=opposite[rows])

    return {
        "direction": direction(slice(None)),
        "circling": direction(np.array(["circling" in classes[label].motion for label in own])),
        "label": float((forward.argmax(axis=1) == own).mean()),
    }


def draw_clips(rng: np.random.Generator, classes: list[MovingShape], num_frames: int) -> Tensor:
    """(B, T, 3, 32, 32), normalized."""
    levels = render_clips(draw_scenes(rng, classes=classes), num_frames=num_frames, resolution=32)
    mean, std = (torch.tensor(values)[:, None, None] for values in (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD))
    return (levels / 255 - mean) / std


def encode(tokenizer: CLIPTokenizer, classes: list[MovingShape]) -> Tensor:
    return tokenizer([str(one) for one in classes], padding=True, return_tensors="pt").input_ids


if __name__ == "__main__":
    main()
