"""Both kinds of 8-bit weights load and run on a CPU, change little, and are saved and loaded as they are."""

import sys

import pytest
import torch
from transformers import AutoModelForVideoClassification, AutoProcessor, TorchAoConfig, pipeline

from froster_hf import FrosterForVideoClassification
from froster_hf.assets import SMALL_FROSTER
from froster_hf.checkpoint_loading import load_installed
from froster_hf.fingerprints import model_fingerprint
from froster_hf.quantization_files import TORCHAO_CONFIGS, check_quantization
from tests.fixtures.real_videos import REAL_VIDEOS

quantization = pytest.importorskip(
    "torchao.quantization", reason="needs the extra quantization (make test-integrations)"
)

BIKES = str(REAL_VIDEOS["bikes"])
LABELS = ["a red star sliding left", "a blue circle growing", "a green square turning"]
TASK = "zero-shot-video-classification"


def scores(classify) -> torch.Tensor:
    found = {answer["label"]: answer["score"] for answer in classify(BIKES, candidate_labels=LABELS)}
    return torch.tensor([found[label] for label in LABELS])


def test_quantized_weights_have_a_fingerprint_of_their_own():
    fingerprints = set()
    for scale in (1.0, 1.5):
        model = FrosterForVideoClassification.from_pretrained(SMALL_FROSTER)
        with torch.no_grad():
            model.froster.visual_projection.weight.mul_(scale)
        quantization.quantize_(model, quantization.Int8WeightOnlyConfig())
        fingerprints.add(model_fingerprint(model))
    assert len(fingerprints) == 2


@pytest.mark.parametrize("kind", TORCHAO_CONFIGS)
def test_what_torchao_writes_of_these_configurations_is_taken_from_a_checkpoint(kind):
    config = TorchAoConfig(getattr(quantization, kind)())
    check_quantization({"quantization_config": config.to_dict()}, where="quantized")


@pytest.mark.parametrize("kind", ["Int8WeightOnlyConfig", "Int8DynamicActivationInt8WeightConfig"])
def test_int8_weights_run_on_a_cpu_and_change_little(kind, tmp_path):
    processor = AutoProcessor.from_pretrained(SMALL_FROSTER)
    whole = pipeline(TASK, model=str(SMALL_FROSTER), device="cpu")
    config = TorchAoConfig(getattr(quantization, kind)())
    model = AutoModelForVideoClassification.from_pretrained(SMALL_FROSTER, quantization_config=config)
    weight = model.froster.vision_model.encoder.layers[0].mlp.fc1.weight
    assert type(weight).__name__ == "Int8Tensor"
    pixels = processor(videos=[BIKES], return_tensors="pt")["pixel_values_videos"]
    with torch.no_grad():
        embeds = [each.froster.get_video_features(pixels).video_embeds for each in (whole.model, model)]
    cosine = torch.cosine_similarity(*embeds).item()
    assert cosine > 0.999
    assert not torch.equal(*embeds), "single precision ran"
    quantized = pipeline(TASK, model=model, processor=processor, device="cpu")
    change = (scores(quantized) - scores(whole)).abs().max().item()
    assert change < 0.02

    model.save_pretrained(tmp_path / "quantized")
    processor.save_pretrained(tmp_path / "quantized")
    stored = sum(path.stat().st_size for path in (tmp_path / "quantized").glob("*.safetensors"))
    share = stored / (SMALL_FROSTER / "model.safetensors").stat().st_size
    # With `-s`, the figures of docs/integrations/quantization.md.
    sys.stdout.write(
        f"\n{kind}: cosine {cosine:.6f}, largest change of a score {change:.1e}, {share:.2f} of the bytes\n"
    )
    assert share < 0.8
    again = load_installed(tmp_path / "quantized", device="cpu", dtype="auto")
    torch.testing.assert_close(scores(again), scores(quantized))
