"""FROSTER and Open-VCLIP: `model.`; in some files also `raw_model.`, `projector_v.` and `projector_t.`."""

from ...weights_license import FROSTER_LICENSE
from .entry import LayoutEntry, Prefix, Row

PROJECTORS: tuple[Row, ...] = tuple(
    Row(f"projector_{short}.{position}.weight", f"distillation_projectors.{name}.{layer}.weight")
    for short, name in (("v", "video"), ("t", "text"))
    for position, layer in ((0, "fc1"), (2, "fc2"))
)
"""FROSTER's residual projectors, used in training only."""

RUN_CONFIGURATION_MODULES: dict[str | None, tuple[str, int | None]] = {
    None: ("none", None),
    "expand_temporal_view": ("local_attention", 1),
    "expand_temporal_view_step2": ("local_attention", 2),
    "expand_temporal_view_step3": ("local_attention", 3),
    "channel_shift": ("channel_shift", None),
    "cross_frame_attend": ("cross_frame", None),
    "stadapt_zeroinit": ("st_adapter", None),
    "aim": ("aim", None),
    "adapter": ("adaptformer", None),
}
"""FROSTER's `MODEL.TEMPORAL_MODELING_TYPE` to our module and radius."""

FROSTER = LayoutEntry(
    title="FROSTER or Open-VCLIP",
    patch_embedding="model.visual.conv1.weight",
    prefixes=(
        Prefix("model.", "model", ""),
        Prefix("raw_model.", "teacher", ""),
        Prefix("projector_", "projectors", "projector_"),
    ),
    projectors=PROJECTORS,
    sections={"model_state": ""},
    file_sections=(("model_state", "", ""),),
    temporal_module="local_attention",
    license=FROSTER_LICENSE,
    notes={
        "": "FROSTER's released weights are under CC BY-NC-SA 4.0, and so is what they are converted to.",
        "channel_shift": (
            "FROSTER's public code scrambles the axes in channel_shift; this package shifts as published, so outputs "
            "differ from that code's."
        ),
    },
)
