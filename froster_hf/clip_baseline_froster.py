"""A plain CLIP checkpoint as a FROSTER model: every frame for itself, the baseline of FROSTER (arXiv 2402.03241).

Used by the zero-shot pipeline, which is handed CLIP's own model and processor by transformers.
"""

from typing import Any

from transformers import CONFIG_MAPPING, PROCESSOR_MAPPING, AutoModelForVideoClassification


def wrap_clip(clip: Any, processor: Any) -> tuple[Any, Any]:
    """A plain CLIP model and its processor as a FROSTER model without a temporal module, with CLIP's own weights.

    The classes are those that are registered with transformers: this file also runs in a checkpoint's folder, where
    there is no package to import them from.

    Raises:
        RuntimeError: froster_hf has not been imported.
    """
    if "froster" not in CONFIG_MAPPING:
        raise RuntimeError("Plain CLIP checkpoints need the installed package: `import froster_hf` first.")
    config_class: Any = CONFIG_MAPPING["froster"]
    config = config_class.from_clip_config(clip.config, temporal_module="none")
    model = AutoModelForVideoClassification.from_config(
        config, dtype=clip.dtype, attn_implementation=clip.config._attn_implementation
    )
    model.froster.load_state_dict(clip.state_dict())
    if hasattr(processor, "image_processor"):
        processor_class: Any = PROCESSOR_MAPPING[config_class]
        processor = processor_class.from_clip_processor(processor)
    return model.to(clip.device).eval(), processor
