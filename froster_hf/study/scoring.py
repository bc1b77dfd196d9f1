"""A model over one side of a world, forwards and backwards, and the numbers that are read off its logits.

Letters: n clips, m of them with a direction, K labels, E opposites that are no label of this side.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..data.moving_shapes import MovingShape
from ..evaluation.metrics import top_k_accuracy
from ..modeling.modeling_froster import FrosterForVideoClassification
from ..processing.processing_froster import FrosterProcessor
from ..whole_files import written_whole
from .direction import direction_accuracy, opposite_labels
from .worlds import DecodedClips

_BATCH = 32


@dataclass(frozen=True)
class SideScores:
    """Logits of one side's clips.

    Args:
        texts: K labels, then E opposites.
        num_labels: K.
        labels: (n,).
        forward: (n, K + E).
        backward: (m, K + E), of the clips with a direction, their frames in reverse.
    """

    texts: list[str]
    num_labels: int
    labels: np.ndarray
    forward: np.ndarray
    backward: np.ndarray

    def averaged_with(self, other: "SideScores") -> "SideScores":
        """The ensemble of two models: the mean of their logits."""
        forward, backward = (self.forward + other.forward) / 2, (self.backward + other.backward) / 2
        return SideScores(self.texts, self.num_labels, self.labels, forward, backward)

    def metrics(self) -> dict[str, float]:
        """Shares of the clips that are right.

        Returns:
            `top1`; `appearance` and `motion`, the two halves of the answer; `direction`, between a label and its
            opposite over clips and their reversals; `undirected`, top-1 of the clips that are their own reversal.
        """
        logits = self.forward[:, : self.num_labels]
        shapes = [MovingShape.from_label(text) for text in self.texts]
        pairs = [(shapes[answer], shapes[label]) for answer, label in zip(logits.argmax(1), self.labels)]
        opposite = _opposite_columns(self.texts, self.labels)
        directed = opposite >= 0
        return {
            "top1": top_k_accuracy(logits, self.labels, k=1),
            "appearance": float(np.mean([(a.color, a.shape) == (b.color, b.shape) for a, b in pairs])),
            "motion": float(np.mean([a.motion == b.motion for a, b in pairs])),
            "direction": direction_accuracy(
                self.forward[directed], self.backward, own=self.labels[directed], opposite=opposite[directed]
            ),
            "undirected": top_k_accuracy(logits[~directed], self.labels[~directed], k=1),
        }

    def save(self, file: Path) -> None:
        """Write `file`, an .npz."""
        file.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(file) as part:
            np.savez(
                part,
                texts=np.array(self.texts),
                num_labels=self.num_labels,
                labels=self.labels,
                forward=self.forward,
                backward=self.backward,
            )

    @classmethod
    def load(cls, file: Path) -> "SideScores":
        """Read what `save` wrote."""
        with np.load(file) as arrays:
            texts, num_labels = arrays["texts"].tolist(), int(arrays["num_labels"])
            return cls(texts, num_labels, arrays["labels"], arrays["forward"], arrays["backward"])


@torch.inference_mode()
def score_side(model: FrosterForVideoClassification, processor: FrosterProcessor, clips: DecodedClips) -> SideScores:
    """Score the clips of one side."""
    labels = clips.labels.numpy()
    extra = {text for text in opposite_labels(clips.label_names) if text is not None} - set(clips.label_names)
    texts = [*clips.label_names, *sorted(extra)]
    model.eval()
    text_embeds = processor.embed_labels(texts, model=model)

    def logits(pixel_values_videos: torch.Tensor) -> np.ndarray:
        batches = (batch.to(model.device) for batch in pixel_values_videos.split(_BATCH))
        return torch.cat([model(batch, text_embeds=text_embeds).logits.float().cpu() for batch in batches]).numpy()

    pixels = clips.pixel_values_videos
    directed = torch.from_numpy(_opposite_columns(texts, labels) >= 0)
    return SideScores(texts, len(clips.label_names), labels, logits(pixels), logits(pixels[directed].flip(1)))


def _opposite_columns(texts: list[str], labels: np.ndarray) -> np.ndarray:
    """Each clip's opposite label as an index into `texts` (n,), -1 where its motion has no direction."""
    place = {text: index for index, text in enumerate(texts)}
    columns = np.array([-1 if text is None else place.get(text, -1) for text in opposite_labels(texts)])
    return columns[labels]
