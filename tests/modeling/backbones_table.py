"""The guide to backbones, with the table of the code: `python -m tests.modeling.backbones_table` writes it again."""

from pathlib import Path

from froster_hf.modeling.tables_froster import BACKBONES
from tests.modeling.table import markdown_table, yes_or_no

DOCUMENT = Path(__file__).parents[2] / "docs" / "guides" / "backbones.md"

BEGINNING = """\
# Backbones

A FROSTER model is made of the two towers of a dual encoder, pre-trained on images and texts. CLIP is the one that the
paper uses; each of these becomes a FROSTER model without a conversion step, with every temporal module and pooling:
"""

MIDDLE = """\
The weights stay under their own licenses, also in what you train from them.

```python
from froster_hf import FrosterForVideoClassification, FrosterProcessor

name = "google/siglip2-base-patch16-224"
model = FrosterForVideoClassification.from_dual_encoder(name, temporal_module="local_attention")
processor = FrosterProcessor.from_dual_encoder(name, video_options={"num_frames": 8})
```

`from_clip` is its name for CLIP, and takes nothing else. The zero-shot pipeline takes the name of a plain dual encoder
directly, and looks at every frame for itself.
"""

END = """\
What differs between them is looked after:

- **Pixels.** Size, mean, standard deviation and interpolation are those of the checkpoint's image processor. SigLIP
  does not crop: it scales both sides to the square.
- **Texts.** CLIP's and MetaCLIP 2's text towers are causal and read at the end token, so texts are trimmed to what
  counts. SigLIP's tower reads its padding: the processor pads every text to its 64 tokens, and the model refuses texts
  of another length. MetaCLIP 2 and SigLIP 2 have multilingual tokenizers: labels may be in any of their languages.
  SigLIP's first tokenizer needs `pip install sentencepiece protobuf`.
- **Logits.** SigLIP was trained with a sigmoid per pair, so its logits have a bias, and the sigmoid of a logit is the
  probability that a label holds. A softmax over labels does not see the bias. Training with the cross-entropy over a
  label list moves the scale, and nothing keeps the bias calibrated.
- **The token of a frame.** SigLIP has no class token but a pooling head. Where a temporal module wants one (the
  messages of `cross_frame`), it takes the mean of the patches.
- **Teachers.** Student and teacher have to share a tokenizer: distill from the backbone that the student started from,
  which is the default.

With `temporal_module="none"`, the scores are those of the original model, averaged over the frames. SigLIP 2 with
images of any shape (NaFlex, `model_type: siglip2`) is not a backbone: its tower takes lists of patches.
"""


def render() -> str:
    """The document."""
    rows = [
        [
            f"`{name}`",
            entry.description,
            entry.source,
            ", ".join(f"`{checkpoint}`" for checkpoint in entry.checkpoints),
            entry.license,
            yes_or_no(entry.has_class_token),
            yes_or_no(entry.has_calibrated_sigmoid),
        ]
        for name, entry in BACKBONES.items()
    ]
    header = [
        "`model_type`",
        "what it is",
        "source",
        "on the Hub, for example",
        "license of the weights",
        "class token",
        "sigmoid",
    ]
    return "\n".join([BEGINNING, *markdown_table(header, rows), "", MIDDLE, END])


if __name__ == "__main__":
    DOCUMENT.write_text(render())
