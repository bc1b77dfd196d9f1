"""An exported folder, loaded by sentence-transformers itself, embeds as the model and the processor do."""

import json
import shutil

import pytest
import torch
from transformers import AutoModel, AutoProcessor

from froster_hf.hub.export_folder import SENTENCE_TRANSFORMERS_FILES
from tests.fixtures.real_videos import REAL_VIDEOS

sentence_transformers = pytest.importorskip(
    "sentence_transformers", reason="needs the extra sentence-transformers (make test-integrations)"
)

VIDEOS = [str(path) for path in REAL_VIDEOS.values()]
TEXTS = ["a dog runs", "a man rides a bike along a street", "golf"]


@pytest.fixture(scope="module")
def embedder(exported):
    return sentence_transformers.SentenceTransformer(str(exported), device="cpu")


@pytest.fixture(scope="module")
def ours(exported):
    return AutoModel.from_pretrained(exported).eval(), AutoProcessor.from_pretrained(exported)


def test_videos_have_the_embeddings_of_the_model(embedder, ours):
    model, processor = ours
    with torch.no_grad():
        pixels = processor(videos=VIDEOS, return_tensors="pt")["pixel_values_videos"]
        expected = model.get_video_features(pixels).pooler_output
    found = embedder.encode(VIDEOS, convert_to_tensor=True)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_texts_have_the_embeddings_of_the_model(embedder, ours):
    model, processor = ours
    with torch.no_grad():
        expected = model.get_text_features(processor(text=TEXTS, return_tensors="pt")["input_ids"]).pooler_output
    found = embedder.encode(TEXTS, convert_to_tensor=True)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert embedder.get_embedding_dimension() == expected.shape[1]


def test_the_prompt_set_of_a_label_gives_its_label_embedding(embedder, ours):
    model, processor = ours
    prompts = processor.write_prompts(TEXTS)
    each = embedder.encode(prompts, convert_to_tensor=True).unflatten(0, (len(TEXTS), processor.num_prompts))
    found = torch.nn.functional.normalize(each.mean(dim=1), dim=-1)
    torch.testing.assert_close(found, processor.embed_labels(TEXTS, model=model), rtol=0, atol=1e-6)


def test_a_prompt_that_is_set_precedes_every_text(embedder, ours):
    model, processor = ours
    with torch.no_grad():
        texts = [f"a video of {text}" for text in TEXTS]
        expected = model.get_text_features(processor(text=texts, return_tensors="pt")["input_ids"]).pooler_output
    found = embedder.encode(TEXTS, prompt="a video of ", convert_to_tensor=True)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_similarities_are_cosines_and_rank_as_the_logits_do(embedder, ours):
    model, processor = ours
    inputs = processor(videos=VIDEOS, text=TEXTS, return_tensors="pt")
    with torch.no_grad():
        outputs = model(**inputs)
    expected = torch.nn.functional.cosine_similarity(outputs.video_embeds[:, None], outputs.text_embeds[None], dim=-1)
    found = embedder.similarity(
        embedder.encode(VIDEOS, convert_to_tensor=True), embedder.encode(TEXTS, convert_to_tensor=True)
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_the_export_writes_what_the_library_itself_would_write(exported, tmp_path):
    plain = shutil.copytree(exported, tmp_path / "plain", ignore=shutil.ignore_patterns(*SENTENCE_TRANSFORMERS_FILES))
    sentence_transformers.SentenceTransformer(str(plain), device="cpu").save_pretrained(str(tmp_path / "saved"))
    for name, content in SENTENCE_TRANSFORMERS_FILES.items():
        written = json.loads((tmp_path / "saved" / name).read_text())
        if name == "config_sentence_transformers.json":
            del written["__version__"]
        assert written == content == json.loads((exported / name).read_text()), name


def test_a_string_that_is_no_video_file_is_a_text(embedder):
    found = embedder.encode(["nowhere.mp4", "a dog"], convert_to_tensor=True)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(2))
