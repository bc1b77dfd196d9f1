import json

import pytest
import torch
from PIL import Image

from froster_hf.evaluation import label_similarity, mean_best_cosine, similarity_table, write_similarity_report
from tests.fixtures.tiny import tiny_model, tiny_processor


def test_mean_best_cosine_by_hand():
    tested = torch.tensor([[1.0, 0.0], [0.0, 3.0], [1.0, 1.0]])
    training = torch.tensor([[2.0, 0.0], [-1.0, 0.0]])
    assert mean_best_cosine(tested, training) == pytest.approx((1 + 0 + 0.5**0.5) / 3)
    assert mean_best_cosine(training, training) == pytest.approx(1.0)


def test_embeddings_that_are_not_finite_are_refused():
    broken = torch.tensor([[1.0, float("nan")]])
    for embeds in ((broken, torch.eye(2)), (torch.eye(2), broken)):
        with pytest.raises(ValueError, match="embeddings that are infinite or NaN"):
            mean_best_cosine(*embeds)


def test_it_is_not_symmetric():
    one, many = torch.eye(3)[:1], torch.eye(3)
    assert mean_best_cosine(one, many) == pytest.approx(1.0)
    assert mean_best_cosine(many, one) == pytest.approx(1 / 3)


def test_all_pairs_of_two_long_lists_are_never_held_at_once(monkeypatch):
    tested, training = torch.randn(7, 5, generator=torch.manual_seed(0)), torch.randn(4, 5)
    expected = mean_best_cosine(tested, training)
    monkeypatch.setattr(label_similarity, "COSINES_AT_ONCE", 9)
    held = []
    amax = torch.Tensor.amax
    monkeypatch.setattr(
        torch.Tensor, "amax", lambda cosines, **by: held.append(cosines.numel()) or amax(cosines, **by)
    )
    assert mean_best_cosine(tested, training) == pytest.approx(expected)
    assert held == [8, 8, 8, 4]


def test_the_table_gives_similarity_and_gain_and_the_report_a_picture(tmp_path):
    model, processor = tiny_model(), tiny_processor()
    training = ["juggling balls", "kicking a ball", "riding a bike"]
    tested = {
        "same labels": {"labels": training[:2], "accuracy": 80.0, "frozen_accuracy": 70.0},
        "other | labels": {"labels": ["zzz", "0123456"], "accuracy": 40.0, "frozen_accuracy": 45.0},
    }
    rows = similarity_table(model, processor, training_labels=training, tested=tested)
    assert [row["name"] for row in rows] == ["other | labels", "same labels"]
    assert rows[1]["similarity"] == pytest.approx(1.0, abs=1e-5)
    assert [row["gain"] for row in rows] == [-5.0, 10.0]
    bare = processor.embed_labels(["zzz", "0123456"], model=model, templates="none")
    assert rows[0]["similarity"] == pytest.approx(
        mean_best_cosine(bare, processor.embed_labels(training, model=model, templates="none"))
    )

    write_similarity_report(rows, tmp_path)
    assert json.loads((tmp_path / "label_similarity.json").read_text()) == rows
    table = (tmp_path / "label_similarity.md").read_text().splitlines()
    assert table[2].startswith("| other \\| labels | ")
    assert table[3].endswith("| 1.000 | 70.0 | 80.0 | +10.0 |")
    with Image.open(tmp_path / "label_similarity.png") as picture:
        assert picture.size[0] > 300
