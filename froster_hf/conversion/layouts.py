"""Which code base wrote a checkpoint, told from the names of its tensors alone."""

import re
from collections.abc import Iterable
from typing import get_args

from froster_hf.conversion.key_maps import UNSUPPORTED, Layout
from froster_hf.printing import listing, printable


def recognise_layout(names: Iterable[str]) -> Layout:
    """The layout that the names of a state dict belong to.

    Args:
        names: without an enclosing section of the file, and without DistributedDataParallel's `module.`.

    Raises:
        ValueError: the names belong to no layout that can be converted; the message says what was found.
    """
    names = set(names)
    for pattern, reason in UNSUPPORTED.items():
        match = next((name for name in sorted(names) if re.fullmatch(pattern, name)), None)
        if match:
            raise ValueError(f"The checkpoint cannot be converted: it {reason} (told by the name {printable(match)}).")
    if "image_encoder.conv1.weight" in names:
        return "vificlip"
    if "model.visual.conv1.weight" in names:
        return "froster"
    if "vision_model.embeddings.patch_embedding.weight" in names:
        return "transformers"
    if "visual.conv1.weight" in names:
        has_head = any(name.startswith("fusion_model.") for name in names)
        return "actionclip" if has_head or "visual.time_embedding" in names else "openai"
    prefixes = sorted({name.split(".")[0] for name in names})[:8]
    raise ValueError(
        f"The layout of the checkpoint is unknown: {len(names)} tensors, with names beginning with "
        f"{listing(prefixes) or 'nothing'}. The known layouts ({', '.join(get_args(Layout))}) have a patch "
        "embedding named model.visual.conv1.weight, visual.conv1.weight, image_encoder.conv1.weight or "
        "vision_model.embeddings.patch_embedding.weight."
    )
