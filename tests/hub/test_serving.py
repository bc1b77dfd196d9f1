"""The towers as graphs: in onnxruntime and torch.export at other sizes, with other labels, in int8."""

import json
import re
import sys

import pytest
import torch

from froster_hf.hub import TowerReport, export_checkpoint, export_towers, serving
from froster_hf.hub.serving import _checked
from tests.fixtures.subprocesses import run_forked
from tests.fixtures.tiny import tiny_model, tiny_processor
from tests.modeling import tiny

onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def exported(checkpoint, tmp_path_factory):
    target = tmp_path_factory.mktemp("towers") / "out"
    return export_checkpoint(checkpoint, target, towers=["onnx", "torch_export"], quantize=True)


def run_onnx(file, inputs):
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: inputs.numpy()})[0])


@torch.no_grad()
def test_labels_change_without_a_new_export_and_logits_are_those_of_the_model(exported):
    """A server's computation, from the files alone, for label lists and clip lengths that the export never saw."""
    folder = exported.folder / "towers"
    about = json.loads((folder / "towers.json").read_text())
    model, processor = tiny_model(), tiny_processor(["a video of {}.", "{}"])
    generator = torch.Generator().manual_seed(5)
    for labels, shape in ((["juggling"], (1, 1)), (["swimming", "cooking soup", "a very long name"], (3, 7))):
        encoded = processor.encode_labels(labels)
        pixels = torch.randn(*shape, 3, 32, 32, generator=generator)
        prompts = run_onnx(folder / "text_tower.onnx", encoded["input_ids"])
        bank = torch.nn.functional.normalize(prompts.unflatten(0, (len(labels), -1)).mean(1), dim=-1)
        video = run_onnx(folder / "video_tower.onnx", pixels)
        expected = model(pixels, **encoded)
        assert (video - expected.video_embeds).abs().max() < 1e-4
        assert (bank - expected.text_embeds).abs().max() < 1e-4
        torch.testing.assert_close(about["logit_scale"] * video @ bank.T, expected.logits, atol=1e-3, rtol=1e-4)
        saved = torch.export.load(folder / "video_tower.pt2").module()
        assert (saved(pixels) - expected.video_embeds).abs().max() < 1e-4


def test_the_report_tells_the_measured_differences_and_int8_differs_more(exported):
    by_file = {report.file: report for report in exported.towers}
    assert set(by_file) == {
        f"{tower}_tower{end}" for tower in ("video", "text") for end in (".onnx", ".int8.onnx", ".pt2")
    }
    for name, report in by_file.items():
        assert (report.max_difference > 1e-4) == (".int8." in name), name
        assert report.min_cosine > (0.99 if ".int8." in name else 0.99999), name
    stored = json.loads((exported.folder / "towers" / "towers.json").read_text())["checked"]
    assert [TowerReport(**entry) for entry in stored] == list(exported.towers)
    assert "int8.onnx: differs from PyTorch by" in str(exported)


def test_a_graph_that_differs_is_refused():
    with pytest.raises(ValueError, match=r"a\.onnx differs from PyTorch by 1\.0e-03"):
        _checked("a.onnx", [(torch.full((2, 4), 0.501), torch.full((2, 4), 0.5))])


@pytest.mark.parametrize("tolerance", [1e-4, None])
@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("place", [0, 1])
def test_embeddings_that_are_not_finite_are_no_small_difference(tolerance, side, place):
    """The maximum of Python loses one behind the first."""
    pairs = [[torch.ones(2, 4), torch.ones(2, 4)] for _ in range(2)]
    pairs[place][side][1, 2] = torch.nan
    with pytest.raises(ValueError, match=r"a\.onnx or the PyTorch model gives embeddings that are not finite"):
        _checked("a.onnx", pairs, tolerance=tolerance)


def test_wrong_requests_are_named(tmp_path):
    with pytest.raises(ValueError, match="'tflite'"):
        export_towers(tiny_model(), tmp_path, formats=["tflite"])
    with pytest.raises(ValueError, match="float32"):
        export_towers(tiny_model().to(torch.bfloat16), tmp_path)
    with pytest.raises(ValueError, match="add 'onnx'"):
        export_towers(tiny_model(), tmp_path, formats=["torch_export"], quantize=True)
    assert not list(tmp_path.iterdir())


def test_graphs_of_tensors_beyond_models_of_its_size_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(serving, "MOST_NUMBERS", 1000)
    with pytest.raises(ValueError, match=r"tensors of .* numbers while they are checked; .* at most"):
        export_towers(tiny_model(num_frames=3_000), tmp_path / "towers", formats=["torch_export"])
    assert not (tmp_path / "towers").exists()


def test_graphs_of_poolings_and_texts_with_more_scores_than_models_of_its_size_have_are_refused(tmp_path, monkeypatch):
    """Frames and heads, positions and heads: few parameters, and a graph holds the scores of all pairs."""
    pooled = tiny_model(temporal_pooling="transformer_cls", num_frames=40, pooling_num_heads=16)
    worded = tiny_model()
    worded.config.text_config.max_position_embeddings = 1000
    monkeypatch.setattr(serving, "MOST_NUMBERS_PER_PARAMETER", 0)
    for model, most, words in (
        (pooled, 3 * 16 * 41**2, "Graphs of clips of 40 frames would have tensors of 8.1e+04 numbers"),
        (worded, 3 * 2 * 1000**2, "Graphs of texts of 1000 tokens would have tensors of 6.0e+06 numbers"),
    ):
        monkeypatch.setattr(serving, "MOST_NUMBERS", most - 1)
        with pytest.raises(ValueError, match=re.escape(words)):
            export_towers(model, tmp_path / "towers", formats=["torch_export"])
        assert not (tmp_path / "towers").exists()


@pytest.mark.slow
@pytest.mark.parametrize("fields", tiny.ARCHITECTURES, ids=tiny.architecture_id)
@pytest.mark.parametrize("kind", ["torch_export", "onnx"])
def test_every_architecture_exports(fields, kind, tmp_path):
    for report in export_towers(tiny.tiny_model(**fields), tmp_path, formats=[kind]):
        assert report.max_difference < 1e-4


def test_a_full_disk_does_not_end_the_process(tmp_path):
    (tmp_path / "tower.pt2").symlink_to("/dev/full")
    program = torch.export.export(torch.nn.Linear(300, 300), (torch.ones(1, 300),))

    def written() -> None:
        try:
            serving._write_torch(program, tmp_path, "tower", [])
        except OSError as error:
            sys.stderr.write(f"refused: {error}\n")

    done = run_forked(written)
    assert done.returncode == 0
    assert done.stderr.startswith("refused: [Errno 28] No space left on device")


class _Graph:
    def save(self, file, external_data):
        raise OSError("problem writing element 24576 to file")  # NumPy's


def test_a_full_disk_is_one_error_that_names_the_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.export, "export", lambda *_, **options: None)
    monkeypatch.setattr(torch.onnx, "export", lambda *_, **options: _Graph())
    with pytest.raises(OSError, match=r"towers cannot be written \(No space left on device\)"):
        export_towers(tiny_model(), tmp_path / "towers")
    assert not list(tmp_path.iterdir())


def test_towers_are_written_neither_behind_a_link_nor_among_other_files(tmp_path):
    (tmp_path / "victim").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "victim")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine").touch()
    for name, reason in (("link", "is a link, which is not followed"), ("taken", "is not an empty folder")):
        with pytest.raises(ValueError, match=reason):
            export_towers(tiny_model(), tmp_path / name, formats=["torch_export"])
    assert not list((tmp_path / "victim").iterdir())
