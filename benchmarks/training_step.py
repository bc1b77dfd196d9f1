"""One training step, ours against the naive data flow, paired in one run: time, peak memory, equality of the losses.

    OMP_NUM_THREADS=2 python benchmarks/training_step.py --labels 100 --rounds 1 --steps 1
    python benchmarks/training_step.py --size small --labels 20 --rounds 1    # seconds, to see that it runs
    python benchmarks/training_step.py --device cuda --dtype bfloat16 --compile --clips 8

The naive flow is written here, from the description of the original: the teacher's texts are encoded every step, every
text has 77 tokens, every frame's attention gets its own copy of the keys and values of three frames, the last blocks
are computed at every token, and QuickGELU takes three passes. Weights,
clips, prompts, losses and optimizer are the same. Each measurement is a process of its own, so that peaks of memory
are its own; the two flows take turns. One that grows beyond `--memory-limit-gib` is ended, and said to not run.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SIZES = {
    "b16": {"vision": (768, 12, 224, 16), "text": (512, 12), "dim": 512},
    "small": {"vision": (128, 4, 64, 16), "text": (128, 4), "dim": 64},
}
VOCABULARY, LENGTH, START, END = 49408, 77, 49406, 49407
PROMPTS, TEMPLATE_TOKENS = 2, 8


def main() -> None:
    options = parse_options()
    if options.child:
        print("RESULT " + json.dumps(CHILDREN[options.child](options)))
        return
    print(describe(options))
    print("| labels | step time, naive / ours | seconds: naive, ours | peak memory, naive / ours | GiB: naive, ours "
          "| 10^12 operations: naive, ours | of the peak: naive, ours |")  # fmt: skip
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for num_labels in options.labels:
        results = {"naive": [], "ours": []}
        for _ in range(options.rounds):
            for flow, found in results.items():
                if None not in found:
                    found.append(run_child(flow, num_labels, options))
        print(row(num_labels, results), flush=True)
        check_equal(num_labels, results)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="b16")
    parser.add_argument("--labels", type=int, nargs="+", default=[100])
    parser.add_argument("--clips", type=int, default=2)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--longest", type=int, default=30, help="tokens of the longest prompt")
    parser.add_argument("--steps", type=int, default=2, help="timed steps, after those that are not")
    parser.add_argument("--rounds", type=int, default=2, help="times that the flows take turns")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--compile", action="store_true", help="torch.compile, of our flow")
    parser.add_argument("--memory-limit-gib", type=float, default=24.0)
    parser.add_argument("--child", choices=CHILDREN, help=argparse.SUPPRESS)
    return parser.parse_args()


INTRODUCTION = """# The training step against the original's data flow

`{command}`

{machine}.
{size}, {clips} clips of {frames} frames, {prompts} prompts per label of at most {longest} tokens, {dtype}, {where};
medians of {rounds} rounds of {steps} timed steps. The same student is trained on the same clips and prompts twice: by
`FrosterTrainer`, and with the data flow of the original, written here again. Each measurement is a process of its own,
the two take turns, and a ratio is of neighboring measurements. Peak memory is what a process holds above its imports.
Operations are those of matrix products and attention that a step runs, counted by torch; "of the peak": these over the
step's time, against the fastest product of two 2048 x 2048 matrices in the same process.
What is left out of the time: each of the 29 templates costs the teacher one pass over the labels, when it is first
drawn.
"""


def describe(options: argparse.Namespace) -> str:
    import torch
    from machine import command_line, describe_machine

    where = torch.cuda.get_device_name() if options.device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    facts = {"command": command_line(), "machine": describe_machine(), "prompts": PROMPTS, "where": where}
    return INTRODUCTION.format(**facts, **{name: value for name, value in vars(options).items() if name not in facts})


def run_child(flow: str, num_labels: int, options: argparse.Namespace) -> dict | None:
    """The measurement of one process, `None` if it outgrew the limit."""
    import psutil

    command = [sys.executable, __file__, "--child", flow, "--labels", str(num_labels)]
    for name in ("size", "clips", "frames", "longest", "steps", "device", "dtype"):
        command += [f"--{name}", str(getattr(options, name))]
    command += ["--compile"] if options.compile else []
    with tempfile.TemporaryFile("w+") as output:
        child = psutil.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        while child.poll() is None:
            time.sleep(0.2)
            try:
                used = child.memory_info().rss / 2**30
            except psutil.NoSuchProcess:
                continue
            if used > options.memory_limit_gib:
                child.kill()
                child.wait()
                return None
        output.seek(0)
        lines = output.read().splitlines()
    found = [line.removeprefix("RESULT ") for line in lines if line.startswith("RESULT ")]
    if child.returncode or not found:
        raise RuntimeError(f"The {flow} flow failed with exit code {child.returncode}:\n" + "\n".join(lines[-30:]))
    return json.loads(found[0])


def row(num_labels: int, results: dict) -> str:
    runs_both = None not in results["naive"]

    def both(key: str, form: str, scale: float = 1.0) -> str:
        flows = (results[flow] if None not in results[flow] else None for flow in ("naive", "ours"))
        return ", ".join("-" if runs is None else f"{median_of(runs, key) / scale:{form}}" for runs in flows)

    def ratio(key: str) -> str:
        if not runs_both:
            return "naive does not run"
        return (
            f"{statistics.median(n[key] / o[key] for n, o in zip(results['naive'], results['ours'], strict=True)):.2f}"
        )

    measures = [ratio("seconds"), both("seconds", ".2f"), ratio("gib"), both("gib", ".2f")]
    return f"| {' | '.join([str(num_labels), *measures, both('operations', '.2f', 1e12), both('of_peak', '.0%')])} |"


def median_of(runs: list[dict], key: str) -> float:
    return statistics.median(run[key] for run in runs)


def check_equal(num_labels: int, results: dict) -> None:
    if None in results["naive"]:
        return
    naive, ours = results["naive"][0]["losses"], results["ours"][0]["losses"]
    largest = max(abs(naive[name] - ours[name]) for name in naive)
    print(f"\n{num_labels} labels: largest difference of a part of the loss at the first step: {largest:.1e}\n")


def untimed_steps(options: argparse.Namespace) -> int:
    """The first, in which operations are counted and nothing is compiled; the second, in which it is, too."""
    return 2 if options.compile else 1


# What both flows train on


def build(options: argparse.Namespace):
    """Student, clips, labels and prompts (K, P, 77); the same in every process."""
    import torch

    from froster_hf import FrosterConfig, FrosterForVideoClassification

    size = SIZES[options.size]
    width, layers, image_size, patch_size = size["vision"]
    text_width, text_layers = size["text"]
    torch.manual_seed(0)
    config = FrosterConfig(
        vision_config={
            "hidden_size": width,
            "intermediate_size": 4 * width,
            "num_hidden_layers": layers,
            "num_attention_heads": width // 64,
            "image_size": image_size,
            "patch_size": patch_size,
        },
        text_config={
            "hidden_size": text_width,
            "intermediate_size": 4 * text_width,
            "num_hidden_layers": text_layers,
            "num_attention_heads": text_width // 64,
            "vocab_size": VOCABULARY,
            "eos_token_id": END,
        },
        projection_dim=size["dim"],
        num_frames=options.frames,
    )
    student = FrosterForVideoClassification(config)
    num_labels = options.labels[0]
    clips = torch.randn(options.clips, options.frames, 3, image_size, image_size)
    labels = torch.randint(num_labels, (options.clips,))
    lengths = torch.randint(options.longest // 2, options.longest + 1, (num_labels, PROMPTS))
    lengths[0, 0] = options.longest
    prompts = torch.randint(1, END - 1, (num_labels, PROMPTS, LENGTH))
    # A step draws one template for all labels: the first prompts begin alike. The others are the bare labels.
    prompts[:, 0, 1:TEMPLATE_TOKENS] = prompts[0, 0, 1:TEMPLATE_TOKENS]
    prompts[..., 0] = START
    positions = torch.arange(LENGTH)
    prompts[positions == lengths[..., None] - 1] = END
    prompts[positions >= lengths[..., None]] = 0
    return student, clips, labels, prompts


def measured(
    step_seconds: list[float], losses: dict, before_gib: float, operations: int, options: argparse.Namespace
) -> dict:
    import torch

    if options.device == "cuda":
        peak = torch.cuda.max_memory_allocated() / 2**30
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20 - before_gib
    seconds = statistics.median(step_seconds[untimed_steps(options) :])
    of_peak = operations / seconds / matrix_product_rate(options)
    return {"seconds": seconds, "gib": peak, "losses": losses, "operations": operations, "of_peak": of_peak}


def matrix_product_rate(options: argparse.Namespace) -> float:
    """The best of a few products of large matrices, in operations per second."""
    import torch

    a = b = torch.randn(2048, 2048, device=options.device, dtype=getattr(torch, options.dtype))
    rates = []
    for _ in range(20):
        begun = time.perf_counter()
        a @ b
        if options.device == "cuda":
            torch.cuda.synchronize()
        rates.append(2 * 2048**3 / (time.perf_counter() - begun))
    return max(rates)


def resident_gib() -> float:
    """What the imports take, before there is a model."""
    import psutil

    import froster_hf.training  # noqa: F401

    return psutil.Process().memory_info().rss / 2**30


# Ours


def train_ours(options: argparse.Namespace) -> dict:
    before = resident_gib()
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import TrainerCallback

    from froster_hf.training import FrosterTrainer, FrosterTrainingArguments, LabelPrompts

    student, clips, labels, prompts = build(options)
    counter = FlopCounterMode(display=False)

    class Clock(TrainerCallback):
        def __init__(self):
            self.seconds: list[float] = []

        def now(self) -> float:
            if options.device == "cuda":
                torch.cuda.synchronize()
            return time.perf_counter()

        def on_step_begin(self, args, state, control, **kwargs):
            if not self.seconds:
                counter.__enter__()
            self.begun = self.now()

        def on_step_end(self, args, state, control, **kwargs):
            self.seconds.append(self.now() - self.begun)
            if len(self.seconds) == 1:
                counter.__exit__(None, None, None)

    templates = [f"{{}} {number}" for number in range(PROMPTS)]
    names = [f"label {number}" for number in range(len(prompts))]
    dataset = [{"pixel_values_videos": clip, "labels": label} for clip, label in zip(clips, labels)] * (
        options.steps + untimed_steps(options)
    )
    with tempfile.TemporaryDirectory() as folder:
        args = FrosterTrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=options.clips,
            max_steps=options.steps + untimed_steps(options),
            training_prompts="all",
            train_sampling_strategy="sequential",
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=options.device == "cpu",
            bf16=options.dtype == "bfloat16",
            torch_compile=options.compile,
        )
        trainer = FrosterTrainer(
            student,
            args,
            train_dataset=dataset,
            prompts=LabelPrompts.from_tokens(names, templates, prompts.flatten(0, 1), end_token=END),
            callbacks=[clock := Clock()],
        )
        trainer.train()
    parts = ("loss", "loss_ce", "loss_distill_video", "loss_distill_text")
    losses = {part: trainer.state.log_history[0][part] for part in parts}
    return measured(clock.seconds, losses, before, counter.get_total_flops(), options)


# The naive flow


def train_naive(options: argparse.Namespace) -> dict:
    before = resident_gib()
    import contextlib
    import copy

    import torch
    import torch.nn.functional as F
    from torch.utils.flop_counter import FlopCounterMode

    from froster_hf.modeling import modeling_froster
    from froster_hf.modeling.layers_froster import OnePassMLP
    from froster_hf.modeling.temporal_froster import LocalAttention
    from froster_hf.training.student import decay_parameter_names
    from froster_hf.training.teacher import FrozenTeacher

    student, clips, labels, prompts = build(options)
    student.add_distillation_projectors("residual", alpha=0.1)
    teacher = FrozenTeacher.from_student(copy.deepcopy(student)).model

    def copied_windows(self, hidden_states, attention_mask=None, *, num_frames, **kwargs):
        """Keys and values of three frames, copied for every frame; the scores in full."""

        def split(projected):
            return projected.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)  # (B*T, H, N, d)

        def with_neighbors(tokens):
            frames = tokens.unflatten(0, (-1, num_frames))
            nothing = torch.zeros_like(frames[:, :1])
            previous = torch.cat([nothing, frames[:, :-1]], dim=1)
            following = torch.cat([frames[:, 1:], nothing], dim=1)
            return torch.cat([previous, frames, following], dim=3).flatten(0, 1)  # (B*T, H, 3N, d)

        queries = split(self.q_proj(hidden_states)) * self.scale
        keys = with_neighbors(split(self.k_proj(hidden_states)))
        values = with_neighbors(split(self.v_proj(hidden_states)))
        weights = (queries @ keys.transpose(-1, -2)).softmax(dim=-1)
        return self.out_proj((weights @ values).transpose(1, 2).flatten(2)), None

    def distance(student_embeds, teacher_embeds):
        return (1 - F.cosine_similarity(student_embeds.float(), teacher_embeds.float(), dim=-1)).mean()

    LocalAttention.forward = copied_windows
    # The last block in full, and QuickGELU in three passes.
    modeling_froster.computes_embeds_alone = lambda tower, options: False
    OnePassMLP._takes = lambda self, hidden_states: False
    device = torch.device(options.device)
    student.to(device).train()
    teacher.to(device)
    clips, labels, texts = clips.to(device), labels.to(device), prompts.flatten(0, 1).to(device)
    decaying = set(decay_parameter_names(student))
    groups = [
        {"params": [p for n, p in student.named_parameters() if n in decaying], "weight_decay": 0.01},
        {"params": [p for n, p in student.named_parameters() if n not in decaying], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=3.33e-6)

    def run_step() -> dict[str, torch.Tensor]:
        precision = contextlib.nullcontext()
        if options.dtype == "bfloat16":
            precision = torch.autocast(device.type, dtype=torch.bfloat16)
        with precision:
            outputs = student(clips, input_ids=texts, num_prompts=PROMPTS)
            with torch.no_grad():
                teacher_frames = teacher.get_video_features(clips).frame_embeds
                teacher_texts = teacher.get_label_embeds(texts, num_prompts=PROMPTS)
        ce = F.cross_entropy(outputs.logits.float(), labels)
        video = distance(outputs.projected_frame_embeds, teacher_frames)
        text = distance(outputs.projected_text_embeds, teacher_texts)
        loss = ce + 2.0 * (video + text)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return {"loss": loss, "loss_ce": ce, "loss_distill_video": video, "loss_distill_text": text}

    seconds, losses = [], {}
    counter = FlopCounterMode(display=False)
    for step in range(options.steps + untimed_steps(options)):
        begun = time.perf_counter()
        with counter if step == 0 else contextlib.nullcontext():
            parts = run_step()
        seconds.append(time.perf_counter() - begun)
        losses = losses or {name: part.item() for name, part in parts.items()}
    return measured(seconds, losses, before, counter.get_total_flops(), options)


CHILDREN = {"ours": train_ours, "naive": train_naive}

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    main()
