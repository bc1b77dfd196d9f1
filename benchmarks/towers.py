"""Video and text tower: ours against the data flow of the original, written naively here.

    python benchmarks/towers.py > benchmarks/towers.md
    python benchmarks/towers.py --device cuda --dtype bfloat16 --clips 8

The naive video tower copies keys and values three times (next, previous, own frame), computes the softmax in full and
QuickGELU in three passes; the naive text tower encodes all 77 tokens of every prompt. Both use the same weights and
give the same numbers; each round runs them one after the other, and a ratio is the median over the rounds of the ratio
within a round. The fraction of the peak is the arithmetic that is needed over the time that it took, against the
fastest matrix product measured in the same round. On a CPU one compute thread, and its processor time: what other
programs do beside it counts less; on a GPU wall time, after a first call, which loads and makes kernels.

Texts are what the package writes with FROSTER's 28 templates and the bare label, one token a word. The naive text
tower does the same for every text, so that it is measured on a share of the texts, and compared per text.
"""

import argparse
import random
import re
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import torch
from machine import command_line, describe_machine
from transformers.models.clip.modeling_clip import CLIPMLP, CLIPAttention

from froster_hf import FrosterConfig, FrosterModel
from froster_hf.modeling.layers_froster import OnePassMLP
from froster_hf.modeling.modeling_froster import sort_and_share, trim_to_longest
from froster_hf.processing.prompts_froster import fill_templates, resolve_templates

T = TypeVar("T")
VIT_B16 = {"patch_size": 16}
NUM_FRAMES, PROMPTS_PER_LABEL, NAIVE_LABELS, CHUNK = 8, 29, 8, 256
CONTEXT, START, END = 77, 49_406, 49_407
INTRODUCTION = """# Towers against the data flow of the original

`{command}`

{machine}.
{dtype}, {clock}, medians of {rounds} paired rounds. "Of the peak": the operations that are needed
(of the last block, keys and values of all tokens, and the rest at the tokens that are read alone) over the time,
against the fastest matrix product of the same round.
"""


class NaiveTemporalAttention(CLIPAttention):
    """Three materialized copies of keys and values, and softmax(q k) v written out.

    The order of the steps is the original's: channels are brought before tokens, the three frames' tokens are written
    beside each other into a buffer of zeros, and tokens are brought before channels again.
    """

    def forward(self, hidden_states, attention_mask=None, *, num_frames, **kwargs):
        num_tokens = hidden_states.shape[1]

        def split(projected):
            return projected.unflatten(0, (-1, num_frames)).unflatten(-1, (-1, self.head_dim)).transpose(2, 3)

        def with_neighbors(frames):
            channels_first = frames.transpose(-1, -2).contiguous()
            buffer = channels_first.new_zeros(*channels_first.shape[:-1], 3 * num_tokens)
            buffer[:, :-1, ..., :num_tokens] = channels_first[:, 1:]
            buffer[:, 1:, ..., num_tokens : 2 * num_tokens] = channels_first[:, :-1]
            buffer[..., 2 * num_tokens :] = channels_first
            return buffer.transpose(-1, -2).contiguous()

        queries = split(self.q_proj(hidden_states)) * self.scale
        keys, values = (with_neighbors(split(p(hidden_states))) for p in (self.k_proj, self.v_proj))
        weights = (queries @ keys.transpose(-1, -2)).softmax(dim=-1)
        output = (weights @ values).transpose(2, 3).flatten(0, 1).flatten(2)
        return self.out_proj(output), None


def naive_copy(model: FrosterModel) -> FrosterModel:
    """The same weights with the naive attention and CLIP's own MLP in every block."""
    naive = FrosterModel(model.config).eval()
    for layer in naive.vision_model.encoder.layers:
        layer.self_attn = NaiveTemporalAttention(model.config.vision_config)
    use_mlps(naive, CLIPMLP)
    naive.load_state_dict(model.state_dict())
    return naive


def use_mlps(model: FrosterModel, kind: type) -> None:
    """CLIP's MLP, or ours on its weights."""
    for tower in (model.vision_model, model.text_model):
        for layer in tower.encoder.layers:
            layer.mlp.__class__ = kind


def write_texts(num_labels: int, words_of_description: int) -> torch.Tensor:
    """(K*P, 77): every prompt of labels of one to four words, padded with zeros; a word is a token."""
    draw = random.Random(0)
    words = [f"word{number}" for number in range(2000)]
    labels = [" ".join(draw.choices(words, k=draw.choice([1, 2, 2, 3, 3, 4]))) for _ in range(num_labels)]
    sentences = [" ".join(draw.choices(words, k=words_of_description)) for _ in labels]
    templates = [*resolve_templates("froster"), "{}"]
    prompts = [text for label, line in zip(labels, sentences) for text in fill_templates(templates, label, line)]
    numbers: dict[str, int] = {}
    ids = torch.zeros(len(prompts), CONTEXT, dtype=torch.long, device="cpu")
    for row, prompt in enumerate(prompts):
        tokens = [numbers.setdefault(word, len(numbers) + 1) for word in re.findall(r"\w+|[^\w\s]", prompt)]
        ids[row, : len(tokens) + 2] = torch.tensor([START, *tokens[: CONTEXT - 2], END], device="cpu")
    return ids.to(torch.get_default_device())


def now() -> float:
    """Seconds of the clock of the default device, on which all is computed."""
    if torch.get_default_device().type == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def timed(function: Callable[[], T]) -> tuple[float, T]:
    """The seconds of a call, on a card of the second one, and what it gives."""
    if torch.get_default_device().type != "cpu":
        function()
    start = now()
    result = function()
    return now() - start, result


def matrix_product_flops(num_clips: int) -> float:
    """The best of a few products in the shape of a ViT-B layer, in operations per second."""
    rows = num_clips * NUM_FRAMES * 197
    a, b = torch.randn(rows, 768), torch.randn(768, 3072)
    return max(2 * rows * 768 * 3072 / timed(lambda: a @ b)[0] for _ in range(10))


def needed_video_flops(num_clips: int) -> float:
    """Multiplications and additions of the linear layers and of the attention over 3N keys.

    Of the last block: keys and values of all tokens, and the rest of the class tokens.
    """
    tokens, width, layers = 197, 768, 12
    linear, attention = 12 * width * width, 2 * 3 * tokens * width
    whole = (layers - 1) * (linear + attention) + 2 * width * width
    patches = 3 * 16 * 16 * width * 196
    return 2 * num_clips * NUM_FRAMES * (tokens * whole + 10 * width * width + attention + patches)


def needed_text_flops(texts: torch.Tensor) -> float:
    """Linear layers of every distinct beginning, once; of the last block, keys and values, and the end tokens."""
    width, layers = 512, 12
    _, chunks = sort_and_share(texts, END, chunk_size=CHUNK)
    nodes = sum(len(chunk.tokens) for chunk in chunks)
    return 2 * width * width * (nodes * ((layers - 1) * 12 + 2) + len(texts) * 10)


def computed_tokens(texts: torch.Tensor) -> int:
    """What our text tower computes on the default device."""
    if torch.get_default_device().type == "cpu":
        return sum(len(chunk.tokens) for chunk in sort_and_share(texts, END, chunk_size=CHUNK)[1])
    return sum(chunk.numel() for chunk in trim_to_longest(texts, END, chunk_size=CHUNK)[1])


def measure_video(model: FrosterModel, naive: FrosterModel, rounds: int, num_clips: int) -> None:
    """The table of the video tower, with what each step gives alone."""
    clips = torch.randn(num_clips, NUM_FRAMES, 3, 224, 224)
    flows = {
        "the original's data flow": (naive, CLIPMLP, False),
        "ours, whole, QuickGELU in three passes": (model, CLIPMLP, False),
        "one-pass QuickGELU": (model, OnePassMLP, False),
        "last block at the class token": (model, CLIPMLP, True),
        "both": (model, OnePassMLP, True),
    }
    taken: dict[str, list[float]] = {name: [] for name in flows}
    fractions: dict[str, list[float]] = {name: [] for name in flows}
    embeds = {}
    for _ in range(rounds):
        peak = matrix_product_flops(num_clips)
        for name, (tower, mlp, only_embeds) in flows.items():
            use_mlps(tower, mlp)
            found, features = timed(partial(tower.get_video_features, clips, only_embeds=only_embeds))
            taken[name].append(found)
            embeds[name] = features.video_embeds
            fractions[name].append(needed_video_flops(num_clips) / taken[name][-1] / peak)
    first, whole = list(flows)[:2]
    print("| video tower, ViT-B/16, 8 frames of 224 | times the original | times ours, whole | of the peak "
          "| difference |")  # fmt: skip
    print("| --- | --- | --- | --- | --- |")
    for name, found in taken.items():
        faster, alone = (statistics.median(b / o for b, o in zip(taken[base], found)) for base in (first, whole))
        difference = (embeds[name] - embeds[first]).abs().max()
        print(f"| {name} | {faster:.2f} | {alone:.2f} | {statistics.median(fractions[name]):.0%} | {difference:.0e} |")


def measure_texts(model: FrosterModel, naive: FrosterModel, num_labels: int, num_clips: int) -> None:
    """The table of the text tower."""
    use_mlps(model, OnePassMLP)
    print(
        "\n| text tower, 29 prompts per label | tokens, naive / ours | times the original | of the peak | difference |"
    )
    print("| --- | --- | --- | --- | --- |")
    for name, words in (("bare labels", 0), ("labels with a sentence of 12 words", 12)):
        texts = write_texts(num_labels, words)
        fewer = texts.numel() / computed_tokens(texts)
        some = texts[: NAIVE_LABELS * PROMPTS_PER_LABEL]
        peak = matrix_product_flops(num_clips)
        theirs, expected = timed(partial(naive.get_text_features, some))
        ours, found = timed(partial(model.get_label_embeds, texts, chunk_size=CHUNK))
        faster = theirs / len(some) * len(texts) / ours
        difference = (found[: len(some)] - expected.text_embeds).abs().max()
        fraction = needed_text_flops(texts) / ours / peak
        print(f"| {num_labels} {name} | {fewer:.1f} | {faster:.1f} | {fraction:.0%} | {difference:.0e} |", flush=True)


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="paired measurements of the video tower (default: 5)")
    parser.add_argument("--labels", type=int, default=100, help="labels of the text tower (default: 100)")
    parser.add_argument("--clips", type=int, default=1, help="clips of a batch of the video tower (default: 1)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of weights and inputs")
    arguments = parser.parse_args()
    machine, clock = describe_machine(), "processor time of one thread"
    if arguments.device == "cuda":
        machine, clock = f"{machine}, {torch.cuda.get_device_name()}", "wall time"
    torch.set_num_threads(1)
    torch.set_default_device(arguments.device)
    torch.set_default_dtype(getattr(torch, arguments.dtype))
    torch.manual_seed(0)
    model = FrosterModel(FrosterConfig(vision_config=VIT_B16)).eval()
    naive = naive_copy(model)
    facts = {"machine": machine, "clock": clock, "dtype": arguments.dtype, "rounds": arguments.rounds}
    print(INTRODUCTION.format(command=command_line(), **facts))
    measure_video(model, naive, arguments.rounds, arguments.clips)
    measure_texts(model, naive, arguments.labels, arguments.clips)


if __name__ == "__main__":
    main()
