"""Loads a stored model of the FROSTER code base, runs ours on the same inputs, and measures the differences."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from froster_hf import FrosterConfig, FrosterForVideoClassification
from froster_hf.conversion import ConvertedStateDict, convert_state_dict

DATA = Path(__file__).parent / "data"
TRIOS = {
    "expand_temporal_view": "local_attention",
    "frozen_none": "none",
    "stadapt_zeroinit": "st_adapter",
    "aim": "aim",
    "adapter": "adaptformer",
    "cross_frame_attend": "cross_frame",
}


@dataclass
class Trio:
    """A stored model: its architecture, its weights under our names, its inputs and the originals' outputs."""

    name: str
    facts: dict
    converted: ConvertedStateDict
    stored: dict[str, torch.Tensor]

    @property
    def label_inputs(self) -> dict:
        """The two stored prompt sets a class, (2, C, 77), as our (C*2, 77)."""
        return {"input_ids": self.stored["input_ids"].transpose(0, 1).flatten(0, 1), "num_prompts": 2}


def load_trio(name: str) -> Trio:
    checkpoint = torch.load(DATA / f"{name}.pth", weights_only=True)
    # Stored in half precision, computed in single: upcasting is exact.
    state = {key: value.float() for key, value in checkpoint["model_state"].items()}
    return Trio(
        name=name,
        facts=json.loads((DATA / f"{name}.json").read_text()),
        converted=convert_state_dict(state),
        stored=load_file(DATA / f"{name}.safetensors"),
    )


def build_model(trio: Trio, **config_fields) -> FrosterForVideoClassification:
    """Our model with the stored weights and projectors; every key has to fit."""
    facts = trio.facts
    config = FrosterConfig(
        vision_config={
            "hidden_size": facts["vision_width"],
            "intermediate_size": 4 * facts["vision_width"],
            "num_hidden_layers": facts["vision_layers"],
            "num_attention_heads": facts["vision_width"] // 64,
            "image_size": facts["image_size"],
            "patch_size": facts["patch_size"],
        },
        text_config={
            "hidden_size": facts["text_width"],
            "intermediate_size": 4 * facts["text_width"],
            "num_hidden_layers": facts["text_layers"],
            "num_attention_heads": facts["text_heads"],
            "max_position_embeddings": facts["text_context"],
            "vocab_size": facts["vocab_size"],
            "bos_token_id": 0,
            "pad_token_id": 0,
            # The originals read at the highest id, which transformers' CLIP does for this historical value.
            "eos_token_id": 2,
        },
        projection_dim=facts["embed_dim"],
        num_frames=facts["num_frames"],
        temporal_module=TRIOS[trio.name],
        **config_fields,
    )
    model = FrosterForVideoClassification(config)
    model.add_distillation_projectors("residual", alpha=facts["alpha"])
    model.froster.load_state_dict(trio.converted.model | trio.converted.projectors, strict=True)
    return model.eval()


def original_gradient_norms(trio: Trio, model: FrosterForVideoClassification) -> dict[str, float]:
    """Norms of our gradients under the original names.

    The gradients take the same way as the weights, since the key map only splits, stacks and transposes.
    """
    from froster_hf.conversion import export_state_dict

    gradients = {name: parameter.grad for name, parameter in model.froster.named_parameters()}
    projectors = {name: gradients.pop(name) for name in list(gradients) if name.startswith("distillation_projectors")}
    exported = export_state_dict(ConvertedStateDict(trio.converted.layout, gradients, projectors=projectors))
    return {name: gradient.norm().item() for name, gradient in exported.items()}


def measure(trio: Trio) -> dict[str, float]:
    """The largest difference of each stored quantity: absolute, but relative for gradient norms."""
    stored, facts = trio.stored, trio.facts
    model = build_model(trio)
    clips = stored["pixel_values_videos"]
    with torch.no_grad():
        evaluated = model(clips, **trio.label_inputs)
    outputs = model(clips, **trio.label_inputs, labels=stored["labels"])

    frames, texts = outputs.projected_frame_embeds.flatten(0, 1), outputs.projected_text_embeds
    distill_video = (1 - F.cosine_similarity(frames, stored["teacher_frame_embeds"])).mean()
    distill_text = (1 - F.cosine_similarity(texts, stored["teacher_text_embeds"])).mean()
    total = outputs.loss + facts["distillation_ratio"] * (distill_video + distill_text)
    total.backward()

    ours = {
        "logits_eval": evaluated.logits,
        "logits_train": outputs.logits,
        "student_frame_embeds_projected": frames,
        "student_text_embeds_projected": texts,
        "loss_ce": outputs.loss,
        "loss_distill_video": distill_video,
        "loss_distill_text": distill_text,
        "loss_total": total,
    }
    differences = {name: (value - stored[name]).abs().max().item() for name, value in ours.items()}
    norms = original_gradient_norms(trio, model)
    differences["gradient norms (relative)"] = max(
        abs(norms[name] - expected) / expected for name, expected in facts["grad_norms"].items()
    )
    return differences
