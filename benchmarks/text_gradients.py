"""Do shared beginnings of texts pay in training? The text tower forward and backward, shared against each for itself.

    OMP_NUM_THREADS=1 python benchmarks/text_gradients.py > benchmarks/text_gradients.md

The texts of a step are what FROSTER's training draws: one of the 28 templates for all labels, and the bare labels. The
text tower of CLIP ViT-B with random weights; one compute thread and its processor time, paired in rounds.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from machine import command_line, describe_machine
from towers import END, write_texts

from froster_hf import FrosterConfig, FrosterModel
from froster_hf.modeling import modeling_froster
from froster_hf.processing.prompts_froster import resolve_templates

PROMPTS, CHUNK = 2, 256
INTRODUCTION = """# Shared beginnings of texts, with gradients

`{command}`

{machine}.
The text tower of CLIP ViT-B, float32, forward and backward; processor time of one thread, medians of {rounds} paired
rounds. {prompts} prompts per label, a template and the bare label. "Apart": every text computes all of its own tokens.
The difference of the gradients is the largest of an entry, over the largest entry. More than {chunk} texts are encoded
in chunks of {chunk} and computed again in the backward pass, either way, as the training does by default.
"""


def texts_of_a_step(num_labels: int, words: int) -> torch.Tensor:
    """(K*2, 77): the first template and the bare label."""
    templates = len(resolve_templates("froster")) + 1
    every = write_texts(num_labels, words).unflatten(0, (num_labels, templates))
    return every[:, [0, -1]].flatten(0, 1)


def step(
    model: FrosterModel, texts: torch.Tensor, direction: torch.Tensor
) -> Callable[[bool], tuple[torch.Tensor, ...]]:
    """Embeds the texts, with beginnings that are shared or not, and gives the gradients of the parameters."""
    parameters = [parameter for parameter in model.text_model.parameters() if parameter.requires_grad]

    def run(shared: bool) -> tuple[torch.Tensor, ...]:
        plain = modeling_froster.is_plain_text_tower
        modeling_froster.is_plain_text_tower = plain if shared else lambda tower: False
        try:
            embeds = model.get_label_embeds(texts, num_prompts=PROMPTS, chunk_size=CHUNK)
            return torch.autograd.grad((embeds * direction).sum(), parameters, allow_unused=True)
        finally:
            modeling_froster.is_plain_text_tower = plain

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = FrosterModel(FrosterConfig(vision_config={"num_hidden_layers": 1}))
    facts = {"command": command_line(), "machine": describe_machine(), "rounds": arguments.rounds}
    print(INTRODUCTION.format(**facts, prompts=PROMPTS, chunk=CHUNK))
    print("| labels | tokens, apart / shared | time, apart / shared | seconds: apart, shared | gradients differ |")
    print("| --- | --- | --- | --- | --- |")
    for name, num_labels, words in (
        ("20 bare labels", 20, 0),
        ("100 bare labels", 100, 0),
        ("100 labels with a sentence of 12 words", 100, 12),
    ):
        texts = texts_of_a_step(num_labels, words)
        run = step(model, texts, torch.randn(num_labels, model.config.projection_dim))
        taken: dict[bool, list[float]] = {False: [], True: []}
        gradients: dict[bool, tuple[torch.Tensor, ...]] = {}
        for _ in range(arguments.rounds):
            for shared, found in taken.items():
                start = time.process_time()
                gradients[shared] = run(shared)
                found.append(time.process_time() - start)
        _, chunks = modeling_froster.sort_and_share(texts, END, chunk_size=CHUNK)
        _, apart = modeling_froster.trim_to_longest(texts, END, chunk_size=CHUNK)
        fewer = sum(chunk.numel() for chunk in apart) / sum(len(chunk.tokens) for chunk in chunks)
        faster = statistics.median(alone / together for alone, together in zip(*taken.values()))
        seconds = ", ".join(f"{statistics.median(found):.2f}" for found in taken.values())
        pairs = [(one, other) for one, other in zip(*gradients.values()) if one is not None]
        largest = max(one.abs().max() for one, _ in pairs)
        difference = max((one - other).abs().max() for one, other in pairs) / largest
        print(f"| {name} | {fewer:.1f} | {faster:.2f} | {seconds} | {difference:.0e} |", flush=True)


if __name__ == "__main__":
    main()
