"""The names of transformers' `CLIPModel`, which are ours; read only, with the `config.json` beside them."""

from .entry import IDENTITY, LayoutEntry, Prefix

TRANSFORMERS = LayoutEntry(
    title="CLIP of transformers",
    patch_embedding="vision_model.embeddings.patch_embedding.weight",
    prefixes=(Prefix("", "model", ""),),
    clip=IDENTITY,
    needs_config=True,
    dropped={
        r"(text_model|vision_model)\.embeddings\.position_ids": (
            "the constant 0, 1, 2, ... of older transformers releases"
        ),
    },
    file_sections=None,
)
