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
directly, and looks at every frame for itself; so does every verb of the shell:

<!-- not run: downloads the checkpoint -->
```bash
froster predict clip.mp4 --labels "riding a bike,juggling" --model google/siglip2-base-patch16-224
```
"""

END = """\
What differs between them is looked after:

- **Pixels.** Size, mean, standard deviation and interpolation are those of the checkpoint's image processor. SigLIP
  does not crop: it scales both sides to the square. A processor that makes frames of another size than the model sees
  is refused when both are loaded.
- **Texts.** CLIP's and MetaCLIP 2's text towers are causal and read at the end token, so texts are trimmed to what
  counts. SigLIP's tower reads its padding: the processor pads every text to its 64 tokens, refuses longer ones, and
  the model refuses texts of another length. MetaCLIP 2 and SigLIP 2 have multilingual tokenizers: labels may be in any
  of their languages.
  SigLIP's first tokenizer needs `pip install 'sentencepiece>=0.2.3' protobuf`.
- **Logits.** SigLIP was trained with a sigmoid per pair, so its logits have a bias, and the sigmoid of a logit is the
  probability that a label holds. A softmax over labels does not see the bias. Training with the cross-entropy over a
  label list moves the scale, and nothing keeps the bias calibrated.
- **The token of a frame.** SigLIP has no class token but a pooling head. Where a temporal module wants one (the
  messages of `cross_frame`), it takes the mean of the patches.
- **Teachers.** Student and teacher have to share a tokenizer: distill from the backbone that the student started from,
  which is the default.

With `temporal_module="none"`, the scores are those of the original model, averaged over the frames.

## What does not fit

A backbone has a vision tower of transformer blocks, between which a temporal module can be put, and a text tower for
which a text is its tokens up to the end, or a fixed number of them: so texts of any length share a batch and a label
bank, and none changes another. These of transformers are of another kind, and are refused:

| `model_type` | why |
| --- | --- |
"""

# Dual encoders of transformers that are no backbones.
NO_BACKBONES = {
    "altclip": "its text tower, XLM-RoBERTa, reads in both directions from the first token: without a mask over the "
    "padding, a text's embedding depends on the others of its batch; for many languages take `metaclip_2` or SigLIP 2",
    "chinese_clip": "the same, with BERT",
    "siglip2": "images of any shape (NaFlex), as lists of patches; fixed resolutions say `siglip`",
    "align": "its vision tower is an EfficientNet, without tokens and attention",
    "flava": "its text tower is a BERT, and a third tower reads both",
    "clipseg": "CLIP below a decoder of masks; take its CLIP",
    "xclip": "its prompts depend on the video, so that there is no label bank",
    "vision-text-dual-encoder": "any two towers, of which nothing is known",
}


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
    others = "".join(f"| `{name}` | {why} |\n" for name, why in NO_BACKBONES.items())
    return "\n".join([BEGINNING, *markdown_table(header, rows), "", MIDDLE, END + others])


if __name__ == "__main__":
    DOCUMENT.write_text(render())
