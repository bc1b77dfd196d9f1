"""Video and text tower: ours against the data flow of the original, written naively here.

    python benchmarks/towers.py [--rounds 5] [--labels 400]

The naive video tower copies keys and values three times (next, previous, own frame), computes the softmax in full, and
the naive text tower encodes all 77 tokens of every prompt. Both use the same weights and give the same numbers; each
round runs the pair one after the other, and the ratio is the median over the rounds of the ratio within a round. The
fraction of the peak is the arithmetic that is needed over the time that it took, against the fastest matrix product
measured in the same round. One compute thread, and its processor time: what other programs do beside it counts less.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable

import torch
from transformers.models.clip.modeling_clip import CLIPAttention

from froster_hf import FrosterConfig, FrosterModel

VIT_B16 = {"patch_size": 16}
NUM_FRAMES, NUM_LABELS, PROMPTS_PER_LABEL = 8, 400, 29
# Lengths in tokens of "a video of a person doing <label>. <label>: <one sentence>", start and end included.
SHORTEST, LONGEST, CONTEXT = 14, 40, 77


class NaiveTemporalAttention(CLIPAttention):
    """Three materialised copies of keys and values, and softmax(q k) v written out.

    The order of the steps is the original's: channels are brought before tokens, the three frames' tokens are written
    beside each other into a buffer of zeros, and tokens are brought before channels again.
    """

    def forward(self, hidden_states, attention_mask=None, *, num_frames, **kwargs):
        num_tokens = hidden_states.shape[1]

        def split(projected):
            return projected.unflatten(0, (-1, num_frames)).unflatten(-1, (-1, self.head_dim)).transpose(2, 3)

        def with_neighbours(frames):
            channels_first = frames.transpose(-1, -2).contiguous()
            buffer = torch.zeros(*channels_first.shape[:-1], 3 * num_tokens)
            buffer[:, :-1, ..., :num_tokens] = channels_first[:, 1:]
            buffer[:, 1:, ..., num_tokens : 2 * num_tokens] = channels_first[:, :-1]
            buffer[..., 2 * num_tokens :] = channels_first
            return buffer.transpose(-1, -2).contiguous()

        queries = split(self.q_proj(hidden_states)) * self.scale
        keys, values = (with_neighbours(split(p(hidden_states))) for p in (self.k_proj, self.v_proj))
        weights = (queries @ keys.transpose(-1, -2)).softmax(dim=-1)
        output = (weights @ values).transpose(2, 3).flatten(0, 1).flatten(2)
        return self.out_proj(output), None


def naive_copy(model: FrosterModel) -> FrosterModel:
    """The same weights with the naive attention in every block."""
    naive = FrosterModel(model.config).eval()
    for layer in naive.vision_model.encoder.layers:
        layer.self_attn = NaiveTemporalAttention(model.config.vision_config)
    naive.load_state_dict(model.state_dict())
    return naive


def prompts() -> torch.Tensor:
    """(K*P, 77): prompts of one label have about the same length, padded with end tokens as CLIP's tokenizer does."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(SHORTEST, LONGEST - 7, (NUM_LABELS, 1), generator=generator)
    lengths = (lengths + torch.randint(0, 8, (NUM_LABELS, PROMPTS_PER_LABEL), generator=generator)).flatten()
    ids = torch.randint(1, 49_000, (len(lengths), CONTEXT), generator=generator)
    ids[torch.arange(CONTEXT) >= lengths[:, None] - 1] = 49_407
    return ids


def seconds(function: Callable[[], object]) -> float:
    start = time.process_time()
    function()
    return time.process_time() - start


def matrix_product_flops() -> float:
    """The best of a few products in the shape of a ViT-B layer, in operations a second."""
    a, b = torch.randn(1576, 768), torch.randn(768, 3072)
    return max(2 * 1576 * 768 * 3072 / seconds(lambda: a @ b) for _ in range(20))


def video_tower_flops(num_clips: int) -> float:
    """Multiplications and additions of the linear layers and of the attention over 3N keys."""
    tokens, width, layers = 197, 768, 12
    linear = 12 * width * width * layers + (3 * 16 * 16 * width * 196 / 197)
    attention = 2 * 3 * tokens * width * layers
    return 2 * num_clips * NUM_FRAMES * tokens * (linear + attention)


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="paired measurements (default: 5)")
    parser.add_argument("--labels", type=int, default=NUM_LABELS, help=f"labels for the text tower ({NUM_LABELS})")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = FrosterModel(FrosterConfig(vision_config=VIT_B16)).eval()
    naive = naive_copy(model)
    clips = torch.randn(1, NUM_FRAMES, 3, 224, 224)
    texts = prompts()[: arguments.labels * PROMPTS_PER_LABEL]

    def video(tower):
        return tower.get_video_features(clips).video_embeds

    def text_ours():
        return model.get_label_embeds(texts, num_prompts=PROMPTS_PER_LABEL, chunk_size=256)

    def text_naive():
        chunks = [naive.get_text_features(chunk).text_embeds for chunk in texts.split(NUM_LABELS)]
        return torch.nn.functional.normalize(torch.cat(chunks).unflatten(0, (-1, PROMPTS_PER_LABEL)).mean(1), dim=-1)

    video_difference = (video(model) - video(naive)).abs().max().item()
    ratios, fractions, naive_fractions = [], [], []
    for _ in range(arguments.rounds):
        peak = matrix_product_flops()
        ours, theirs = seconds(lambda: video(model)), seconds(lambda: video(naive))
        ratios.append(theirs / ours)
        fractions.append(video_tower_flops(1) / ours / peak)
        naive_fractions.append(video_tower_flops(1) / theirs / peak)
    embeds: dict[str, torch.Tensor] = {}
    text_ratios = []
    for _ in range(max(1, arguments.rounds // 5)):
        ours = seconds(lambda: embeds.update(ours=text_ours()))
        theirs = seconds(lambda: embeds.update(naive=text_naive()))
        text_ratios.append(theirs / ours)
    text_difference = (embeds["ours"] - embeds["naive"]).abs().max().item()

    print(f"torch {torch.__version__}, {platform.machine()}, float32, one thread\n")
    print("| ViT-B/16, 8 frames of 224 | naive / ours, time | ours, of the peak | naive, of the peak | difference |")
    print("| --- | --- | --- | --- | --- |")
    print(
        f"| video tower | {statistics.median(ratios):.2f} | {statistics.median(fractions):.0%} | "
        f"{statistics.median(naive_fractions):.0%} | {video_difference:.0e} |"
    )
    work = f"{PROMPTS_PER_LABEL} prompts x {arguments.labels} labels"
    print(f"| text tower, {work} | {statistics.median(text_ratios):.2f} | | | {text_difference:.0e} |")


if __name__ == "__main__":
    main()
