"""State dicts in the original layouts, drawn at random in any size: what the tests convert."""

from pathlib import Path

import torch
from torch import Tensor

PARITY = Path(__file__).parents[1] / "parity" / "data"
TRIOS = {
    "expand_temporal_view": None,
    "frozen_none": None,
    "stadapt_zeroinit": "st_adapter",
    "aim": "aim",
    "adapter": "adaptformer",
    "cross_frame_attend": "cross_frame",
}
"""The parity trios, and the temporal module whose weights each one holds."""

SIZES = {
    "tiny": {
        "width": 64,
        "layers": 2,
        "patch": 8,
        "grid": 2,
        "text_width": 64,
        "text_layers": 2,
        "vocab": 99,
        "dim": 32,
    },
    "ViT-B/32": {"width": 768, "patch": 32, "grid": 7, "text_width": 512, "dim": 512},
    "ViT-B/16": {"width": 768, "patch": 16, "grid": 14, "text_width": 512, "dim": 512},
    "ViT-L/14": {"width": 1024, "layers": 24, "patch": 14, "grid": 16, "text_width": 768, "dim": 768},
}


def load_trio(name: str) -> dict[str, Tensor]:
    """The state dict of a parity trio."""
    return torch.load(PARITY / f"{name}.pth", weights_only=True)["model_state"]


def clip_state_dict(size: str = "tiny", *, dtype=torch.float16, device="cpu", **sizes) -> dict[str, Tensor]:
    """A CLIP vision transformer under OpenAI's names."""
    s = {"layers": 12, "text_layers": 12, "vocab": 49408, **SIZES[size], **sizes}
    width, text_width = s["width"], s["text_width"]
    state = {
        "positional_embedding": (77, text_width),
        "text_projection": (text_width, s["dim"]),
        "logit_scale": (),
        "visual.class_embedding": (width,),
        "visual.positional_embedding": (s["grid"] ** 2 + 1, width),
        "visual.proj": (width, s["dim"]),
        "visual.conv1.weight": (width, 3, s["patch"], s["patch"]),
        **_norm("visual.ln_pre", width),
        **_norm("visual.ln_post", width),
        "token_embedding.weight": (s["vocab"], text_width),
        **_norm("ln_final", text_width),
    }
    for i in range(s["layers"]):
        state |= _block(f"visual.transformer.resblocks.{i}", width)
    for i in range(s["text_layers"]):
        state |= _block(f"transformer.resblocks.{i}", text_width)
    if device == "meta":
        return {name: torch.empty(shape, dtype=dtype, device="meta") for name, shape in state.items()}
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator).mul_(0.02).to(dtype) for name, shape in state.items()}


def with_prefix(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Every name behind `prefix`."""
    return {prefix + name: tensor for name, tensor in state.items()}


def froster_state_dict(
    clip: dict[str, Tensor], *, teacher: bool = False, projectors: bool = True
) -> dict[str, Tensor]:
    """FROSTER's layout of a CLIP state dict."""
    state = with_prefix("model.", clip)
    if teacher:
        state |= with_prefix("raw_model.", {name: tensor.clone() for name, tensor in clip.items()})
    if projectors:
        projection = clip["text_projection"]
        square = projection.new_empty(projection.shape[1], projection.shape[1])
        if square.device.type == "cpu":
            square.normal_(std=0.02)
        state |= {f"projector_{tower}.{i}.weight": square.clone() for tower in "vt" for i in (0, 2)}
    return state


def vificlip_state_dict(clip: dict[str, Tensor], *, num_labels: int = 3) -> dict[str, Tensor]:
    """ViFi-CLIP's layout: without the token embedding, with the embedded prompts of its labels."""
    state = {}
    for name, tensor in clip.items():
        if name.startswith("visual."):
            state["image_encoder." + name.removeprefix("visual.")] = tensor
        elif name == "logit_scale":
            state[name] = tensor
        elif name != "token_embedding.weight":
            state["text_encoder." + name] = tensor
    state["prompt_learner.complete_text_embeddings"] = clip["positional_embedding"].expand(num_labels, -1, -1).clone()
    return state


def _norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _block(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {
        f"{name}.attn.in_proj_weight": (3 * width, width),
        f"{name}.attn.in_proj_bias": (3 * width,),
        f"{name}.attn.out_proj.weight": (width, width),
        f"{name}.attn.out_proj.bias": (width,),
        **_norm(f"{name}.ln_1", width),
        f"{name}.mlp.c_fc.weight": (4 * width, width),
        f"{name}.mlp.c_fc.bias": (4 * width,),
        f"{name}.mlp.c_proj.weight": (width, 4 * width),
        f"{name}.mlp.c_proj.bias": (width,),
        **_norm(f"{name}.ln_2", width),
    }


def assert_bit_equal(ours, expected):
    """Two state dicts have the same names, types, shapes and values."""
    assert set(ours) == set(expected)
    for name, tensor in expected.items():
        assert ours[name].dtype == tensor.dtype, name
        assert ours[name].shape == tensor.shape, name
        assert torch.equal(ours[name], tensor), name
