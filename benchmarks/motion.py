"""Which temporal module and which distillation win together? A first, small comparison on moving shapes.

    OMP_NUM_THREADS=1 python benchmarks/motion.py --clip froster_hf/assets/small_clip --seeds 0 1

CLIP is the folder of a small CLIP of the moving-shapes world. A seed draws base and novel classes of
`split_base_novel` (all 21 motions; appearances are new, motions are not). Every combination of a module, of what is
trained and of a distillation is fine-tuned on base clips with cross-entropy, then shown fresh clips of both sides.
HM: harmonic mean of base and novel top-1. Appearance: the answer has the clip's color and shape. Direction: each clip
and its reversal, between the two opposite labels. More arithmetic: of a ViT-B/16 on 8 frames, over that of
`local_attention`, counted by torch.

What was not chosen lives here only.
"""

import argparse
import time

import numpy as np
import torch
from direction import draw_clips, encode
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPTokenizer, CLIPVisionConfig
from transformers.models.clip.modeling_clip import CLIPEncoderLayer

from froster_hf import FrosterConfig, FrosterForVideoClassification
from froster_hf.evaluation.metrics import harmonic_mean
from froster_hf.modeling.temporal_froster import (
    DirectionalAttention,
    LocalAttention,
    SpatioTemporalAdapterLayer,
    temporal_difference,
)
from froster_hf.shapes import split_base_novel
from froster_hf.shapes.study.jobs import direction_accuracy
from froster_hf.training.distillation import begin_distillation
from froster_hf.training.losses import LossPart, cross_entropy_loss, total_loss
from froster_hf.training.student import decay_parameter_names
from froster_hf.training.teacher import FrozenTeacher

LEARNING_RATES = {"all": 1e-3, "own": 6e-3}


class Adapted(CLIPEncoderLayer):
    """A block on whose input something is added that depends on how the tokens change; zero where nothing changes."""

    attention: type[LocalAttention] | None = LocalAttention

    def __init__(self, config: CLIPVisionConfig, temporal: FrosterConfig):
        super().__init__(config)
        if self.attention is not None:
            self.self_attn = self.attention(config, temporal)

    def motion(self, clips: Tensor) -> Tensor:
        """(B, T, N, W) to the same."""
        raise NotImplementedError

    def forward(self, hidden_states, attention_mask=None, *, num_frames, **kwargs):
        clips = hidden_states.unflatten(0, (-1, num_frames))
        hidden_states = hidden_states + self.motion(clips).flatten(0, 1)
        if self.attention is not None:
            kwargs["num_frames"] = num_frames
        return super().forward(hidden_states, attention_mask, **kwargs)


def second_difference(clips: Tensor) -> Tensor:
    """Previous plus next frame minus twice the frame itself; at the ends the frame itself stands in."""
    padded = torch.cat([clips[:, :1], clips, clips[:, -1:]], dim=1)
    return padded[:, 2:] + padded[:, :-2] - 2 * clips


class Gates(Adapted):
    """First and second difference behind a gate a channel each."""

    def __init__(self, config, temporal):
        super().__init__(config, temporal)
        self.own_gates = nn.Parameter(torch.zeros(2, self.embed_dim))

    def motion(self, clips):
        first, second = DirectionalAttention.gate_scale * self.own_gates
        return first * temporal_difference(clips) + second * second_difference(clips)


class LowRank(Adapted):
    """First and second difference in a bottleneck of W / 16, GELU, and back."""

    activation = staticmethod(nn.functional.gelu)
    divisor = 16

    def __init__(self, config, temporal):
        super().__init__(config, temporal)
        rank = self.embed_dim // self.divisor
        self.own_down = nn.Linear(self.embed_dim, rank, bias=False)
        self.own_taps = nn.Parameter(torch.randn(2, rank))
        self.own_up = nn.Linear(rank, self.embed_dim, bias=False)
        nn.init.zeros_(self.own_up.weight)

    def motion(self, clips):
        low = self.own_down(clips)
        low = self.own_taps[0] * temporal_difference(low) + self.own_taps[1] * second_difference(low)
        return self.own_up(self.activation(low))


class LowRankLinear(LowRank):
    activation = staticmethod(lambda low: low)


class LowRankAlone(LowRank):
    """On CLIP's own attention: the frames see each other by the adapter alone."""

    attention = None


class QuarterAlone(LowRankAlone):
    divisor = 4


class HalfAlone(LowRankAlone):
    divisor = 2


class LowRankDirectional(LowRank):
    attention = DirectionalAttention


class SmallSTAdapter(SpatioTemporalAdapterLayer):
    """ST-Adapter with a bottleneck of W / 16."""

    def __init__(self, config, temporal):
        fields = {**temporal.to_dict(), "temporal_module": "st_adapter", "adapter_size": config.hidden_size // 16}
        super().__init__(config, FrosterConfig(**fields))


class STAdapter(SpatioTemporalAdapterLayer):
    def __init__(self, config, temporal):
        super().__init__(config, FrosterConfig(**{**temporal.to_dict(), "temporal_module": "st_adapter"}))


MODULES: dict[str, type[nn.Module]] = {
    "local_attention": LocalAttention,
    "directional_attention": DirectionalAttention,
    "gates": Gates,
    "low-rank": LowRank,
    "low-rank, linear": LowRankLinear,
    "low-rank, no local attention": LowRankAlone,
    "W / 4, no local attention": QuarterAlone,
    "W / 2, no local attention": HalfAlone,
    "low-rank and directional": LowRankDirectional,
    "st_adapter, W / 16": SmallSTAdapter,
    "st_adapter": STAdapter,
}
OWN = ("motion_gate", "own_gates", "own_down", "own_taps", "own_up", "st_adapter")
# Module, what is trained, distillation, its weight.
RUNS = [
    ("local_attention", "all", "none", 0.0),
    ("local_attention", "all", "residual", 0.5),
    ("st_adapter", "own", "none", 0.0),
    ("st_adapter", "own", "residual", 0.5),
    ("directional_attention", "all", "residual", 0.5),
    ("directional_attention", "all", "still", 0.5),
    ("low-rank", "own", "none", 0.0),
    ("low-rank", "own", "residual", 0.5),
    ("low-rank", "all", "residual", 0.5),
    ("low-rank", "all", "still", 0.5),
    ("low-rank", "all", "still", 4.0),
    ("low-rank, no local attention", "own", "none", 0.0),
    ("low-rank, no local attention", "all", "still", 4.0),
    ("st_adapter, W / 16", "own", "none", 0.0),
    ("gates", "own", "none", 0.0),
    ("gates", "all", "still", 4.0),
    ("low-rank, linear", "own", "none", 0.0),
    ("low-rank and directional", "all", "still", 4.0),
    ("local_attention", "all", "relative", 0.4),
    ("local_attention", "all", "logits", 0.4),
    ("W / 4, no local attention", "own", "none", 0.0),
    ("W / 2, no local attention", "own", "none", 0.0),
    ("W / 2, no local attention", "own", "residual", 0.5),
]


def insert(model: FrosterForVideoClassification, kind: type[nn.Module]) -> None:
    vision = model.froster.vision_model
    for index, layer in enumerate(vision.encoder.layers):
        if issubclass(kind, CLIPEncoderLayer):
            block = kind(model.config.vision_config, model.config)
            block.load_state_dict(layer.state_dict(), strict=False)
            vision.encoder.layers[index] = block
        else:
            attention = kind(model.config.vision_config, model.config)
            attention.load_state_dict(layer.self_attn.state_dict(), strict=False)
            layer.self_attn = attention


def flops(kind: type[nn.Module], *, num_frames: int = 8) -> int:
    """Of a block of ViT-B/16."""
    config = CLIPVisionConfig(patch_size=16)
    config._attn_implementation = "sdpa"
    if issubclass(kind, CLIPEncoderLayer):
        block = kind(config, FrosterConfig())
    else:
        block = CLIPEncoderLayer(config)
        block.self_attn = kind(config, FrosterConfig())
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        block(torch.randn(num_frames, 197, config.hidden_size), None, num_frames=num_frames)
    return counter.get_total_flops()


def build_optimizer(model: nn.Module, *, learning_rate: float, steps: int):
    """AdamW and its schedule, a short rise and a cosine, by step."""
    decaying = set(decay_parameter_names(model))
    groups = [
        {
            "params": [p for name, p in model.named_parameters() if p.requires_grad and (name in decaying) == decays],
            "weight_decay": decay,
        }
        for decays, decay in ((True, 0.01), (False, 0.0))
    ]
    optimizer = torch.optim.AdamW(groups, lr=learning_rate)
    return optimizer, torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / 12, 0.5 + 0.5 * np.cos(np.pi * step / steps))
    )


def train_and_measure(run: tuple[str, str, str, float], seed: int, options: argparse.Namespace) -> dict[str, float]:
    module, trained, distillation_name, weight = run
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    split = split_base_novel(rng, classes_per_side=options.classes)
    tokenizer = CLIPTokenizer.from_pretrained(options.clip)
    model = FrosterForVideoClassification.from_clip(options.clip, temporal_module="local_attention")
    teacher = FrozenTeacher.from_student(model)
    insert(model, MODULES[module])
    if trained == "own":
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(not set(OWN).isdisjoint(name.split(".")))
    distillation = None
    if distillation_name != "none":
        form = {"distillation": distillation_name, "target": "both", "alpha": 0.5, "weight": weight}
        distillation = begin_distillation(model, teacher=teacher, **form)
    optimizer, schedule = build_optimizer(
        model, learning_rate=options.learning_rate or LEARNING_RATES[trained], steps=options.steps
    )
    clip_rng = np.random.default_rng([seed, 2])
    # As few clips as the study has: eight of every class, again in every epoch.
    pool = draw_clips(clip_rng, [one for one in split.base for _ in range(8)], options.frames)
    pool_labels = torch.arange(len(split.base)).repeat_interleave(8)
    input_ids = encode(tokenizer, split.base)
    teacher_texts = teacher.embed_texts(input_ids)
    order = torch.cat([torch.from_numpy(clip_rng.permutation(len(pool))) for _ in range(options.epochs)])
    model.train()
    for step in range(options.steps):
        rows = order[16 * step : 16 * (step + 1)]
        clips, labels = pool[rows], pool_labels[rows]
        outputs = model(clips, input_ids=input_ids)
        parts = {"ce": LossPart(cross_entropy_loss(outputs.logits, labels))}
        if distillation is not None:
            parts |= distillation.parts(
                outputs,
                clips=clips,
                labels=labels,
                teacher_texts=teacher_texts,
                step=step,
                seed=seed,
                look=lambda stills, outputs=outputs: model(stills, text_embeds=outputs.text_embeds.detach()),
            )
        optimizer.zero_grad()
        total_loss(parts).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    sides = {
        name: measure(model, side, tokenizer, np.random.default_rng([seed, 1]), options)
        for name, side in split._asdict().items()
    }
    base, novel = sides["base"]["label"], sides["novel"]["label"]
    return {
        "base": base,
        "novel": novel,
        "HM": harmonic_mean(base, novel),
        "novel appearance": sides["novel"]["appearance"],
        "novel motion": sides["novel"]["motion"],
        "direction, base": sides["base"]["direction"],
        "direction, novel": sides["novel"]["direction"],
    }


@torch.no_grad()
def measure(model, classes, tokenizer, rng, options) -> dict[str, float]:
    model.eval()
    own = np.tile(np.arange(len(classes)), 6)
    texts = [*classes, *(one.opposite for one in classes)]
    clips = draw_clips(rng, [classes[label] for label in own], options.frames)
    text_embeds = model.froster.get_label_embeds(encode(tokenizer, texts))
    forward, backward = (
        torch.cat([model(part, text_embeds=text_embeds).logits for part in way.split(48)]).numpy()
        for way in (clips, clips.flip(1))
    )
    directed = np.array([one.opposite != one for one in classes])[own]
    answers = forward[:, : len(classes)].argmax(1)
    pairs = [(classes[a], classes[b]) for a, b in zip(answers, own)]
    return {
        "label": float((answers == own).mean()),
        "appearance": float(np.mean([a.appearance == b.appearance for a, b in pairs])),
        "motion": float(np.mean([a.motion == b.motion for a, b in pairs])),
        "direction": direction_accuracy(
            forward[directed], backward[directed], own=own[directed], opposite=own[directed] + len(classes)
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip", required=True, help="folder of a small CLIP with its tokenizer")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--classes", type=int, default=48, help="a side")
    parser.add_argument("--learning-rate", type=float, help=f"by default {LEARNING_RATES}, by what is trained")
    parser.add_argument("--runs", type=int, nargs="+", help="of the table in this file, by index")
    options = parser.parse_args()
    options.steps = options.epochs * options.classes * 8 // 16
    local = flops(LocalAttention)
    header = None
    for index in options.runs or range(len(RUNS)):
        run, start = RUNS[index], time.process_time()
        results = [train_and_measure(run, seed, options) for seed in options.seeds]
        if header is None:
            header = ["module", "trained", "distillation", "more arithmetic", *results[0], "seconds"]
            print(f"| {' | '.join(header)} |\n|{' --- |' * len(header)}")
        cells = [f"{100 * np.mean([result[key] for result in results]):.1f}" for key in results[0]]
        distillation = run[2] if run[2] == "none" else f"{run[2]}, {run[3]:g}"
        more = f"{100 * (flops(MODULES[run[0]]) / local - 1):+.2f}%"
        seconds = f"{time.process_time() - start:.0f}"
        print(f"| {' | '.join([run[0], run[1], distillation, more, *cells, seconds])} |", flush=True)


if __name__ == "__main__":
    main()
