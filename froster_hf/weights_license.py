"""The license that weights are under, as far as the files beside them say it: a model card, a conversion's report."""

import json
import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .checkpoint_files import inside
from .checkpoint_loading import hub_asked_once
from .printing import printable

FROSTER_LICENSE = "cc-by-nc-sa-4.0"
"""The license of the weights that FROSTER's authors released; whatever they are converted to stays under it."""

REPORT_FILE, CARD_FILE = "conversion.json", "README.md"
MAX_BYTES = 4 << 20
"""The most that is read of either file, and written as a report."""

METADATA = re.compile(r"\s*---[ \t]*\n(.*?)\n---[ \t]*(?:\n|\Z)", re.DOTALL)
"""Of a card, in YAML; whoever made it may have it multiply out, so that it is read as a settings file is."""
# As the Hub writes licenses: `apache-2.0`, `cc-by-nc-sa-4.0`, `llama3.1`.
IDENTIFIER = re.compile(r"[a-z0-9][a-z0-9.+-]{0,63}")


def beside_weights(checkpoint: str | os.PathLike[str], name: str) -> Path | None:
    """A file beside the weights, in a folder or in a repository on the Hub, or `None`; with a warning where the Hub
    cannot be asked for it, as what loads a model leaves no such file in the cache.

    Raises:
        CheckpointError: see `inside`.
    """
    if os.path.isdir(checkpoint):
        path = inside(Path(checkpoint), name)
    else:
        from huggingface_hub import hf_hub_download  # waits for the network's libraries
        from huggingface_hub.errors import LocalEntryNotFoundError

        try:
            with hub_asked_once(checkpoint):
                path = Path(hf_hub_download(os.fspath(checkpoint), name))
        except LocalEntryNotFoundError:
            # The same words for each file, so that it is said once.
            warnings.warn(
                f"What license the weights of {printable(os.fspath(checkpoint))} are under cannot be looked up: the "
                "Hub cannot be reached. What is made of them keeps it.",
                stacklevel=1,
            )
            return None
        except (OSError, ValueError):  # No such file, repository or name; if there are no weights, loading says so.
            return None
    # In the Hub's cache, as transformers, which passes over what is not a file: a pipe would be waited for.
    return path if path.is_file() else None


def is_of_froster(report: Mapping[str, Any] | None) -> bool:
    """Whether weights were converted from those that FROSTER's authors released, by the report of the conversion."""
    if report is None:
        return False
    return report.get("license") == FROSTER_LICENSE or (
        report.get("layout") == "froster" and any(str(name).startswith("projector_") for name in report["left_out"])
    )


def card_license(checkpoint: str | os.PathLike[str]) -> str | None:
    """The license on the checkpoint's own card; `None` where there is no card, or none that can be read."""
    path = beside_weights(checkpoint, CARD_FILE)
    if path is None:
        return None
    try:
        return one_license(card_metadata(path).get("license"))
    except ValueError:
        return None


def card_metadata(card: Path) -> dict[str, Any]:
    """The metadata of a card, none where it has no block of it.

    Raises:
        ValueError: the card is too long or not text, or its metadata cannot be read as a settings file.
    """
    from .settings import read_yaml  # waits for PyYAML

    if card.stat().st_size > MAX_BYTES:
        raise ValueError(f"{printable(str(card))} has more than {MAX_BYTES} bytes, the most that is read.")
    try:
        block = METADATA.match(card.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{printable(str(card))} is not text in UTF-8: {error.reason}.") from error
    stated = read_yaml(block[1] if block else "", where=printable(str(card)))
    if stated is not None and not isinstance(stated, dict):
        raise ValueError(f"The metadata of {printable(str(card))} has to be of `field: value` lines.")
    return stated or {}


def stated_license(checkpoint: str | os.PathLike[str]) -> str | None:
    """The license that a checkpoint states of its weights: in the report of their conversion, or on its card."""
    path = beside_weights(checkpoint, REPORT_FILE)
    if path is not None and path.stat().st_size <= MAX_BYTES:
        try:
            report = json.loads(path.read_bytes())
            license = FROSTER_LICENSE if is_of_froster(report) else one_license(report.get("license"))
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
            license = None  # Whoever exports such a folder is told what is wrong with the file.
        if license is not None:
            return license
    return card_license(checkpoint)


def one_license(license: Any) -> str | None:
    """As the Hub writes it; of several licenses FROSTER's, which has to be kept, or none.

    Args:
        license: what is stated: a text, a list of some, or anything else, which is not a license.
    """
    stated = license if isinstance(license, list) else [license]
    names = [text.lower() for text in stated if isinstance(text, str) and IDENTIFIER.fullmatch(text.lower())]
    if FROSTER_LICENSE in names:
        return FROSTER_LICENSE
    return names[0] if len(names) == len(stated) == 1 else None
