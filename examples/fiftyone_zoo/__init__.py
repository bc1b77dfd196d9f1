"""FROSTER as a remotely-sourced model of the FiftyOne Model Zoo: labels and embeddings of whole videos or clips.

    import fiftyone.zoo as foz

    foz.register_zoo_model_source("https://github.com/<user>/<repository with this folder>")
    model = foz.load_zoo_model("froster-b16", classes=["riding a bike", "juggling"])
    dataset.apply_model(model, label_field="action")
    dataset.compute_embeddings(model, embeddings_field="froster")

The manifest names one checkpoint on the Hub; add an entry for each of your own. No code of a checkpoint is run.
"""

from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.core.models as fom
import numpy as np
from huggingface_hub import snapshot_download

from froster_hf.integrations import ClassifyVideos, EmbedVideos
from froster_hf.integrations.annotation import fiftyone_classification

REPOSITORIES = {"froster-b16": "visual-ai/froster-b16"}


class FrosterVideoModel(fom.Model, fom.EmbeddingsMixin):
    """What `apply_model` and `compute_embeddings` call with a reader of each video or clip."""

    def __init__(self, checkpoint: Path, classes: list[str] | None, **options: Any):
        self.classify = ClassifyVideos(checkpoint, classes, top_k=1, **options)
        self.embedder = EmbedVideos(checkpoint, **options)

    @property
    def media_type(self) -> str:
        return "video"

    @property
    def has_embeddings(self) -> bool:
        return True

    @property
    def ragged_batches(self) -> bool:
        return True

    @property
    def preprocess(self) -> bool:
        return False

    @property
    def transforms(self) -> None:
        return None

    def predict(self, reader: Any) -> fo.Classification:
        found = self._answer(self.classify, reader)
        return fiftyone_classification([{"label": found["labels"][0], "score": found["scores"][0]}])

    def embed(self, reader: Any) -> np.ndarray:
        return np.array(self._answer(self.embedder, reader)["embedding"], dtype=np.float32)

    def _answer(self, answer: Any, reader: Any) -> dict[str, Any]:
        """FiftyOne decides what becomes of a video that fails (`skip_failures`), so its reason is an error here."""
        # Of a clip, the frames that FiftyOne reads; of a whole video, those that the checkpoint samples, read exactly.
        is_whole = len(reader) == reader.total_frame_count
        video = reader.inpath if is_whole else np.stack(list(reader))
        found = {name: values[0] for name, values in answer({"video": [video]}).items()}
        if found["error"]:
            raise ValueError(found["error"])
        return found


def download_model(model_name: str, model_path: str) -> None:
    """Weights, configurations and tokenizer of the checkpoint, in a folder; then the file that FiftyOne looks for."""
    snapshot_download(
        REPOSITORIES[model_name],
        local_dir=checkpoint_folder(model_path),
        allow_patterns=["*.json", "*.safetensors", "*.txt"],
    )
    Path(model_path).write_text(REPOSITORIES[model_name] + "\n", encoding="utf-8")


def load_model(
    model_name: str, model_path: str, classes: list[str] | None = None, **options: Any
) -> FrosterVideoModel:
    """The model; `classes` are the labels to choose from, needed unless the checkpoint has stored labels."""
    return FrosterVideoModel(checkpoint_folder(model_path), classes, **options)


def checkpoint_folder(model_path: str) -> Path:
    return Path(model_path).with_suffix("")
