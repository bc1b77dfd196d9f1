"""ViFi-CLIP: `image_encoder.`, `text_encoder.`; without the token embedding, which its code does not train."""

from .entry import LayoutEntry, Prefix

VIFICLIP = LayoutEntry(
    title="ViFi-CLIP",
    patch_embedding="image_encoder.conv1.weight",
    prefixes=(
        Prefix("image_encoder.", "model", "visual."),
        Prefix("logit_scale", "model", "logit_scale"),
        Prefix("text_encoder.", "model", ""),
    ),
    lacks={"text_model.embeddings.token_embedding.weight": "ViFi-CLIP takes it from its CLIP"},
    starts_with_start_token=("prompt_learner.complete_text_embeddings", "prompt_learner.token_prefix"),
    dropped={
        r"prompt_learner\.(complete_text_embeddings|token_prefix|token_suffix)": (
            "the embedded label prompts of one data set; prompts are encoded again"
        ),
    },
    unsupported={
        r".*\bVPT(_shallow)?": "holds the learned prompt tokens of ViFi-CLIP's second stage, which this package lacks",
    },
    sections={"model": ""},
    # The code base loads the section into a model inside DataParallel.
    file_sections=(("model", "", "module."),),
    # Frame embeddings are pooled as projected, and normalized afterwards.
    temporal_pooling="mean_unnormalized",
    templates="none",
)
