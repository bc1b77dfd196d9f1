"""OpenAI's CLIP, and open_clip's under the same names: without a prefix."""

from .entry import LayoutEntry, Prefix

OPENAI = LayoutEntry(
    title="OpenAI CLIP",
    patch_embedding="visual.conv1.weight",
    prefixes=(Prefix("", "model", ""),),
    sections={"state_dict": ""},
    dropped={
        r"input_resolution|context_length|vocab_size": "a number that the shapes of the weights say already",
    },
)
