"""`froster export`: the folder, its license, its claims, and that it runs without the package."""

import json
import os
import shutil
import types
import warnings
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub import EvalResultEntry, ModelCard
from huggingface_hub.utils import HFValidationError
from safetensors.torch import load_file, save_file
from transformers import AutoModelForVideoClassification, pipeline

import froster_hf.video
from froster_hf.cli import main
from froster_hf.conversion import convert_checkpoint, write_original_checkpoint
from froster_hf.evaluation import evaluate_protocol, load_protocol
from froster_hf.fingerprints import architecture_of, model_fingerprint
from froster_hf.hub import CardFacts, export_checkpoint, load_card_facts, measured_results, read_measured_results
from froster_hf.weights_license import card_license, stated_license
from tests.conversion.hostile_files import malicious_pickle
from tests.conversion.original_layouts import clip_state_dict, froster_state_dict
from tests.conversion.test_convert import clip_processor
from tests.fixtures.forks import run_python
from tests.fixtures.real_videos import REAL_VIDEOS
from tests.fixtures.tiny import save_tiny_clip, tiny_model, tiny_processor
from tests.modeling.test_loading import populate_hub_cache, run_without_the_package

LABELS = {"riding a bike": "two wheels", "golf | <b>": None}
ZERO_SHOT = """
import json
from transformers import pipeline

classify = pipeline("zero-shot-video-classification", model=sys.argv[1], trust_remote_code=True)
assert "transformers_modules" in type(classify.model).__module__, type(classify.model)
print(json.dumps(classify(sys.argv[2])))
"""


def result_file(path, *, fingerprints, dataset="ucf101"):
    """What `froster evaluate` writes, with numbers of our own."""

    def part(top1):
        return {"top1": top1, "top5": 90.0, "num_clips": 12, "num_undecodable": 1, "num_labels": 4}

    report = {
        "protocol": {"name": f"base_to_novel_{dataset}", "protocol": "base_to_novel", "dataset": dataset},
        "results": {
            "ours": {
                "base": 70.0,
                "novel": 50.0,
                "harmonic_mean": 58.33,
                "parts": [{"base": part(70.0 - i), "novel": part(50.0)} for i in range(len(fingerprints))],
            },
            "frozen model": {"harmonic_mean": 99.0, "parts": [{"base": part(99.0), "novel": part(99.0)}]},
        },
        "checkpoints": fingerprints,
        "count_differences": {"novel": {"classes": {"found": 4, "published": 50}}},
    }
    path.write_text(json.dumps(report))
    return path


@pytest.fixture
def converted(checkpoint, tmp_path):
    """The checkpoint as `froster convert` leaves it; `left_out` decides whose it is."""

    def convert(left_out):
        folder = shutil.copytree(checkpoint, tmp_path / "converted")
        report = {"source": "/home/me/swa_2_22.pth", "layout": "froster", "sha256": "ab" * 32, "left_out": left_out}
        (folder / "conversion.json").write_text(json.dumps(report))
        return folder

    return convert


def test_the_folder_holds_all_and_runs_without_the_package(checkpoint, tmp_path, monkeypatch, capsys):
    labels = tmp_path / "labels.json"
    labels.write_text(json.dumps(LABELS))
    out = tmp_path / "out"
    command = ["export", str(checkpoint), str(out), "--labels-file", str(labels), "--max-shard-size", "100KB"]
    assert main([*command, "--license", "apache-2.0"]) == 0
    assert "license   apache-2.0" in capsys.readouterr().out
    names = {path.name for path in out.iterdir()}
    assert {"config.json", "model.safetensors.index.json", "processor_config.json", "tokenizer.json"} <= names
    assert {"modeling_froster.py", "processing_froster.py", "pipeline_froster.py", "README.md"} <= names
    assert len([name for name in names if name.endswith(".safetensors")]) > 1
    assert "training_args.bin" not in names
    config = json.loads((out / "config.json").read_text())
    assert config["id2label"] == {"0": "riding a bike", "1": "golf | <b>"}
    assert "AutoModelForVideoClassification" in config["auto_map"]
    bikes = str(REAL_VIDEOS["bikes"])
    reference = pipeline(
        "zero-shot-video-classification", model=tiny_model(), processor=tiny_processor(["a video of {}.", "{}"])
    )
    expected = {answer["label"]: answer["score"] for answer in reference(bikes, LABELS)}
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    answers = json.loads(run_without_the_package(ZERO_SHOT, str(out), bikes))
    assert {answer["label"]: answer["score"] for answer in answers} == pytest.approx(expected, abs=1e-5)


def test_at_most_twelve_files_of_code_are_exported(checkpoint, tmp_path):
    """Few enough to be read by whoever reviews them before `trust_remote_code=True`."""
    out = tmp_path / "out"
    export_checkpoint(checkpoint, out)
    code = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.py"))
    assert len(code) <= 12, code


def test_the_decoding_sandbox_is_not_exported(checkpoint, tmp_path):
    written = export_checkpoint(checkpoint, tmp_path / "out").files
    processing = {"processing_froster.py", "prompts_froster.py", "sampling_froster.py", "video_processing_froster.py"}
    assert processing <= set(written)
    package = Path(froster_hf.video.__file__).parent
    sandbox = {path.name for path in package.rglob("*.py")} - {"__init__.py"}
    assert not sandbox & set(written)


def test_labels_by_index_are_stored_by_index(checkpoint, tmp_path):
    export_checkpoint(checkpoint, tmp_path / "out", labels={"1": "golf", "0": "riding a bike"})
    assert json.loads((tmp_path / "out" / "config.json").read_text())["id2label"] == {
        "0": "riding a bike",
        "1": "golf",
    }


FILES_WITH_CODE = ("config.json", "tokenizer_config.json", "processor_config.json", "generation_config.json")
FOREIGN = {
    **{f"Auto{kind}": "attacker/repo--evil.E" for kind in ("Model", "ModelForCausalLM", "Config", "Processor")},
    **{f"Auto{kind}Processor": "evil.E" for kind in ("Image", "Video")},
    "AutoTokenizer": ["attacker/repo--evil.E", None],
}


@pytest.fixture
def with_foreign_code(checkpoint, tmp_path):
    """A checkpoint whose files all name code of another repository, and a module of its own that leaves a mark."""
    folder = shutil.copytree(checkpoint, tmp_path / "with_foreign_code")
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w')\nclass E: ...\n")
    for name in FILES_WITH_CODE:
        content = json.loads((folder / name).read_text()) if (folder / name).exists() else {}
        content["auto_map"] = FOREIGN
        content["custom_pipelines"] = {
            "zero-shot-video-classification": {"impl": "evil.E", "pt": ["AutoModel"], "type": "multimodal"},
            "other": {"impl": "attacker/repo--evil.E", "pt": ["AutoModel"], "type": "text"},
        }
        (folder / name).write_text(json.dumps(content))
    return folder


def test_an_export_names_only_code_that_it_writes(with_foreign_code, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["export", str(with_foreign_code), str(out)]) == 0
    assert "dropped   foreign code: " in capsys.readouterr().out
    for path in out.rglob("*"):
        assert path.is_dir() or b"evil" not in path.read_bytes(), path
    config = json.loads((out / "config.json").read_text())
    assert set(config["auto_map"]) == {"AutoConfig", "AutoModel", "AutoModelForVideoClassification"}
    assert list(config["custom_pipelines"]) == ["zero-shot-video-classification"]
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("field", ["model_type", "tokenizer_class"])
def test_export_never_asks_whether_to_run_code(with_foreign_code, field, tmp_path):
    """transformers would ask on standard input, where a pipe may say yes."""
    name = "config.json" if field == "model_type" else "tokenizer_config.json"
    content = json.loads((with_foreign_code / name).read_text())
    content |= {field: "Unheard", "auto_map": {"AutoConfig": "evil.E", "AutoTokenizer": ["evil.E", "evil.E"]}}
    (with_foreign_code / name).write_text(json.dumps(content))
    done = run_python("-m", "froster_hf", "export", with_foreign_code, tmp_path / "out", input="y\n" * 100)
    assert done.returncode == 1
    assert "[y/N]" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    # Of a type that is not known, no configuration is looked for.
    assert ("'Unheard' is not that of a backbone" if field == "model_type" else "code of its own") in done.stderr
    assert "trust_remote_code" not in done.stderr
    assert not (tmp_path / "mark").exists()
    assert not (tmp_path / "out").exists()


def test_pickles_beside_sound_weights_are_neither_opened_nor_copied(checkpoint, tmp_path):
    folder = shutil.copytree(checkpoint, tmp_path / "copy")
    names = ["training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth", "scaler.pt", "adapter_model.bin"]
    for name in names:
        malicious_pickle(folder / name, tmp_path / "mark")
    written = export_checkpoint(folder, tmp_path / "out").files
    assert not set(names) & set(written)
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("field", ["sha256"])
def test_a_hostile_report_of_a_conversion_does_not_reach_the_card(checkpoint, field, tmp_path):
    folder = shutil.copytree(checkpoint, tmp_path / "copy")
    report = {"source": "a.pth", "layout": "openai", "sha256": "ab", "left_out": {}}
    (folder / "conversion.json").write_text(json.dumps({**report, field: "ab`](javascript:x)\n---\nlicense: mit"}))
    with pytest.raises(ValueError, match="only names and numbers can"):
        export_checkpoint(folder, tmp_path / "out")


def test_of_a_hostile_report_of_a_conversion_only_its_own_fields_are_exported_and_shown_as_text(checkpoint, tmp_path):
    folder = shutil.copytree(checkpoint, tmp_path / "copy")
    hostile = "a\x1b]0;title\x07<script>x</script>\n---\nlicense: mit"
    report = {"source": hostile, "layout": hostile, "sha256": "ab", "left_out": {}, "license": hostile}
    code = {"auto_map": {"AutoModel": "owner/name--module.Class"}}
    (folder / "conversion.json").write_text(json.dumps({**report, **code, "settings": [code]}))
    exported = export_checkpoint(folder, tmp_path / "out")
    assert "owner/name" not in (tmp_path / "out" / "conversion.json").read_text()
    assert any("owner/name--module.Class" in reference for reference in exported.dropped)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "<script>" not in card
    assert "\x1b" not in card
    assert exported.license is None


@pytest.mark.parametrize("content", ["null", "[" * 5000])
def test_a_configuration_that_is_none_is_one_error_that_names_the_folder(content, tmp_path):
    tiny_model().save_pretrained(tmp_path / "damaged")
    (tmp_path / "damaged" / "config.json").write_text(content)
    with pytest.raises(ValueError, match=r"The model in .*damaged cannot be loaded: "):
        export_checkpoint(tmp_path / "damaged", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("capabilities", [{}, {"avx512_bf16": True}])
def test_weights_are_written_bit_for_bit_in_their_own_dtype(monkeypatch, tmp_path, capabilities):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    half = tiny_model().to(torch.bfloat16)
    half.save_pretrained(tmp_path / "half")
    tiny_processor().save_pretrained(tmp_path / "half")
    exported = export_checkpoint(tmp_path / "half", tmp_path / "out", towers=["torch_export"])
    assert len(exported.towers) == 2  # in single precision, beside weights that keep theirs
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("half", "out"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) and after[name].dtype == torch.bfloat16 for name in before)


def test_results_of_these_weights_reach_the_card_and_nothing_else_does(checkpoint, tmp_path):
    model = AutoModelForVideoClassification.from_pretrained(checkpoint)
    result = result_file(tmp_path / "result.json", fingerprints=[model_fingerprint(model)])
    facts = CardFacts(
        "tiny",
        license="mit",
        base_model="openai/clip-vit-base-patch16",
        datasets=("someone/videos",),
        benchmarks={"ucf101/novel/top1": {"dataset_id": "someone/ucf101", "task_id": "novel"}},
    )
    report = export_checkpoint(checkpoint, tmp_path / "out", facts=facts, results=[result])
    card = ModelCard.load(tmp_path / "out" / "README.md")
    found = {(entry.dataset_split, entry.metric_name): entry.metric_value for entry in card.data.eval_results}
    assert found[("base", "top-1 accuracy (%)")] == 70.0
    assert found[("all", "harmonic mean of top-1 (%)")] == 58.33
    assert len(found) == len(report.results) == 5
    assert 99.0 not in found.values(), "other models' rows are theirs"
    assert card.data.license == "mit"
    assert card.data.base_model == "openai/clip-vit-base-patch16"
    assert card.data.datasets == ["someone/videos"]
    assert (card.data.pipeline_tag, card.data.library_name) == ("video-classification", "transformers")
    assert "4 classes, published 50; 1 clips undecodable, counted as wrong" in card.text
    from huggingface_hub import parse_eval_result_entries

    (file,) = (tmp_path / "out" / ".eval_results").iterdir()
    assert file.name == "someone--ucf101.yaml"
    assert parse_eval_result_entries(yaml.safe_load(file.read_text())) == [
        EvalResultEntry(
            dataset_id="someone/ucf101",
            task_id="novel",
            value=50.0,
            notes="base_to_novel_ucf101; 4 classes, published 50; 1 clips undecodable, counted as wrong",
        )
    ]


def test_numbers_with_described_labels_say_so_on_the_card(checkpoint, tmp_path):
    own = model_fingerprint(AutoModelForVideoClassification.from_pretrained(checkpoint))
    result = result_file(tmp_path / "result.json", fingerprints=[own])
    said = "sentences about 4 of 4 labels"
    result.write_text(json.dumps(json.loads(result.read_text()) | {"descriptions": said}))
    report = export_checkpoint(checkpoint, tmp_path / "out", results=[result])
    assert all(said in found.remarks for found in report.results)
    assert f"{said}; 4 classes, published 50" in (tmp_path / "out" / "README.md").read_text()


def test_of_several_few_shot_samples_only_its_own_numbers_are_claimed(checkpoint, tmp_path):
    own = model_fingerprint(AutoModelForVideoClassification.from_pretrained(checkpoint))
    result = result_file(tmp_path / "result.json", fingerprints=["0" * 64, own])
    report = export_checkpoint(checkpoint, tmp_path / "out", results=[result])
    assert {(entry.part, entry.metric): entry.value for entry in report.results} == {
        ("base", "top1"): 69.0,
        ("base", "top5"): 90.0,
        ("novel", "top1"): 50.0,
        ("novel", "top5"): 90.0,
    }


def test_half_precision_weights_keep_what_was_measured_in_float32(tmp_path):
    half = tiny_model().to(torch.float16)
    half.save_pretrained(tmp_path / "half")
    tiny_processor().save_pretrained(tmp_path / "half")
    as_evaluated = pipeline("zero-shot-video-classification", model=str(tmp_path / "half"), dtype="float32").model
    result = result_file(tmp_path / "result.json", fingerprints=[model_fingerprint(as_evaluated)])
    assert len(export_checkpoint(tmp_path / "half", tmp_path / "out", results=[result]).results) == 5


def test_results_of_the_same_weights_with_another_architecture_are_refused(checkpoint, tmp_path):
    """Local attention and its radius have no weights, so these are the same; the answers are not."""
    model = AutoModelForVideoClassification.from_pretrained(checkpoint)
    own = architecture_of(model)
    other = {**own, "model": {**own["model"], "temporal_radius": own["model"]["temporal_radius"] + 1}}
    result = result_file(tmp_path / "result.json", fingerprints=[model_fingerprint(model)] * 2)
    report = json.loads(result.read_text())
    result.write_text(json.dumps({**report, "architectures": [other, other]}))
    with pytest.raises(ValueError, match=r"another architecture of the same weights: model.temporal_radius"):
        export_checkpoint(checkpoint, tmp_path / "out", results=[result])
    # Of two models in one report, the numbers are those of the one that is exported.
    result.write_text(json.dumps({**report, "architectures": [other, own]}))
    exported = export_checkpoint(checkpoint, tmp_path / "out", results=[result])
    assert [r.value for r in exported.results if (r.part, r.metric) == ("base", "top1")] == [69.0]
    result.write_text(json.dumps({**report, "architectures": [[], "none"]}))
    with pytest.raises(ValueError, match="not a result of `froster evaluate`"):
        export_checkpoint(checkpoint, tmp_path / "other", results=[result])


def test_results_of_other_weights_and_other_files_are_refused(checkpoint, tmp_path):
    result = result_file(tmp_path / "result.json", fingerprints=["f" * 64])
    with pytest.raises(ValueError, match="measured on the weights ffffffffffff, but"):
        export_checkpoint(checkpoint, tmp_path / "out", results=[result])
    result.write_text('{"checkpoints": []}')
    with pytest.raises(ValueError, match="measured on the weights"):
        export_checkpoint(checkpoint, tmp_path / "out", results=[tmp_path])
    result.write_text("[1]")
    with pytest.raises(ValueError, match="not a result of `froster evaluate`"):
        export_checkpoint(checkpoint, tmp_path / "out", results=[result])
    result.write_text('{"checkpoints": ["\\u001b]0;title\\u0007"]}')
    with pytest.raises(ValueError, match="measured on the weights") as refused:
        export_checkpoint(checkpoint, tmp_path / "out", results=[result])
    assert str(refused.value).isprintable()
    own = model_fingerprint(AutoModelForVideoClassification.from_pretrained(checkpoint))
    result_file(result, fingerprints=[own])
    facts = CardFacts("tiny", benchmarks={"ucf101/full/top1": {"dataset_id": "a/b", "task_id": "c"}})
    with pytest.raises(ValueError, match=r"names ucf101/full/top1, but measured are"):
        export_checkpoint(checkpoint, tmp_path / "out", facts=facts, results=[result])
    assert not (tmp_path / "out").exists(), "a refused export leaves nothing"
    assert not list(tmp_path.glob(".out*"))


@pytest.mark.parametrize(
    "change",
    [
        lambda report: report.update(checkpoints=3),
        lambda report: report.update(results={}),
        lambda report: report["protocol"].update(dataset=["ucf101"]),
        lambda report: report["results"]["ours"]["parts"][0]["base"].update(top1="100"),
        lambda report: report["results"]["ours"]["parts"][0]["base"].update(top1=True),
        lambda report: report["results"]["ours"]["parts"][0]["base"].update(top1=10**400),
        lambda report: report["results"]["ours"].update(harmonic_mean=-(10**400)),
        lambda report: report["results"]["ours"]["parts"][0]["base"].update(num_clips="12"),
        lambda report: report["results"]["ours"].update(harmonic_mean=[100.0]),
        lambda report: report.update(count_differences=[1]),
    ],
)
def test_a_hostile_result_is_one_error_that_names_the_file(tmp_path, change):
    file = result_file(tmp_path / "result.json", fingerprints=["a"])
    report = json.loads(file.read_text())
    change(report)
    file.write_text(json.dumps(report))
    with pytest.raises(ValueError, match=r"result\.json is not a result of `froster evaluate`"):
        read_measured_results(file, fingerprints={"a"})


def test_a_result_of_more_numbers_than_a_card_shows_is_refused(tmp_path, monkeypatch):
    file = result_file(tmp_path / "result.json", fingerprints=["a"])
    count = len(read_measured_results(file, fingerprints={"a"}))
    monkeypatch.setattr(measured_results, "MOST_RESULTS", count)
    assert len(read_measured_results(file, fingerprints={"a"})) == count
    monkeypatch.setattr(measured_results, "MOST_RESULTS", count - 1)
    with pytest.raises(ValueError, match=rf"result\.json .* has more than {count - 1} numbers"):
        read_measured_results(file, fingerprints={"a"})


@pytest.mark.parametrize(
    "change",
    [
        lambda report, text: report["protocol"].update(dataset=text),
        lambda report, text: report["protocol"].update(name=text),
        lambda report, text: report.update(descriptions=text),
        lambda report, text: report["count_differences"]["novel"].update(clips={"found": text, "published": 5}),
        lambda report, text: report["results"]["ours"]["parts"][0]["base"].update(num_undecodable=text),
        lambda report, text: report["results"]["ours"]["parts"][0]["base"].update(num_clips=int("1" * 4200)),
    ],
)
def test_a_long_text_of_a_result_is_not_repeated_with_each_number(tmp_path, change):
    file = result_file(tmp_path / "result.json", fingerprints=["a"])
    report = json.loads(file.read_text())
    change(report, "<" * 100_000)
    file.write_text(json.dumps(report))
    with pytest.raises(ValueError, match=r"result\.json .*characters; a card shows at most 4,000 with a number"):
        read_measured_results(file, fingerprints={"a"})


def test_texts_of_many_numbers_are_bounded_together(tmp_path):
    """A thousand splits of a protocol with a long name are shown."""
    file = result_file(tmp_path / "result.json", fingerprints=["a"])
    report = json.loads(file.read_text())
    parts = report["results"]["ours"]["parts"]
    parts[0] = {f"split {index + 1}": parts[0]["base"] for index in range(1000)}
    report["protocol"]["name"] = "n" * 200
    file.write_text(json.dumps(report))
    assert len(read_measured_results(file, fingerprints={"a"})) == 2001
    report["protocol"]["dataset"] = "d" * 2000
    file.write_text(json.dumps(report))
    with pytest.raises(ValueError, match=r"its 2,001 numbers have 4,\d+,\d+ characters .* at most 2,097,152"):
        read_measured_results(file, fingerprints={"a"})


@pytest.mark.parametrize("text", ['{"checkpoints": NaN}', '{"a": 1, "a": 2}', "[" * 100_000, "\x00"])
def test_a_result_that_is_not_plain_json_is_one_error_that_names_the_file(tmp_path, text):
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(ValueError, match=r"result\.json is not a result of `froster evaluate`"):
        read_measured_results(tmp_path, fingerprints={"a"})


@pytest.mark.parametrize("text", ["- model\n- data\n", "5\n", "data\n", "data: [1]\n", "data: format\n", ""])
def test_a_recipe_that_is_none_is_one_error_that_names_the_file(checkpoint, tmp_path, text):
    (tmp_path / "recipe.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"recipe\.yaml is not a training recipe"):
        export_checkpoint(checkpoint, tmp_path / "out", recipe=tmp_path / "recipe.yaml")
    assert not (tmp_path / "out").exists()


def test_converted_froster_weights_keep_their_authors_license(converted, tmp_path):
    source = converted({"projector_v.fc1.weight": "training only"})
    with pytest.raises(ValueError, match="converted from FROSTER's"):
        export_checkpoint(source, tmp_path / "out", license="apache-2.0")
    report = export_checkpoint(source, tmp_path / "out")
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert report.license == card.data.license == "cc-by-nc-sa-4.0"
    assert "license   cc-by-nc-sa-4.0" in str(report)
    assert "released under CC BY-NC-SA 4.0" in card.text
    assert "from swa_2_22.pth" in card.text
    assert "/home/me" not in card.text, "paths of somebody's disk are nobody's business"


def test_no_file_of_an_export_says_where_the_checkpoint_was(tmp_path):
    private = tmp_path / "some customer"
    private.mkdir()
    convert_checkpoint(save_tiny_clip(private / "clip"), private / "model")
    for out in (tmp_path / "out", tmp_path / "again"):
        export_checkpoint(private / "model", out)
        assert [path for path in out.rglob("*") if path.is_file() and b"some customer" in path.read_bytes()] == []
        report = json.loads((out / "conversion.json").read_text())
        assert (report["source"], report["output"]) == ("clip", "model")


def test_the_report_of_a_conversion_is_written_as_long_as_it_is_read_and_no_longer(checkpoint, tmp_path):
    folder = shutil.copytree(checkpoint, tmp_path / "copy")
    report = {"source": "a.pth", "layout": "openai", "sha256": "ab", "left_out": {}, "notes": ["\u00e9" * 2_000_000]}
    (folder / "conversion.json").write_text(json.dumps(report, ensure_ascii=False), encoding="utf-8")
    export_checkpoint(folder, tmp_path / "out")
    export_checkpoint(tmp_path / "out", tmp_path / "again")

    (folder / "conversion.json").write_text(json.dumps({**report, "notes": [1] * 1_000_000}, separators=(",", ":")))
    with pytest.raises(ValueError, match=r"conversion\.json, would have more than 4194304 bytes"):
        export_checkpoint(folder, tmp_path / "longer")
    (folder / "conversion.json").write_text(json.dumps({**report, "notes": "a" * (5 << 20)}))
    with pytest.raises(ValueError, match=r"conversion\.json has more than 4194304 bytes"):
        export_checkpoint(folder, tmp_path / "longer")
    assert not (tmp_path / "longer").exists()


def converted_froster(folder, **options):
    """Weights with FROSTER's projectors, as `froster convert` writes them, with their processor."""
    folder.mkdir()
    save_file(froster_state_dict(clip_state_dict(vocab=514, layers=2, text_layers=2)), folder / "froster.safetensors")
    clip = clip_processor(folder / "clip")
    convert_checkpoint(folder / "froster.safetensors", folder / "out", processor_from=clip, **options)
    return folder / "out"


@pytest.mark.parametrize("keep_projectors", [False, True])
def test_projectors_kept_or_not_the_license_is_kept(keep_projectors, tmp_path):
    source = converted_froster(tmp_path / "source", keep_projectors=keep_projectors)
    with pytest.raises(ValueError, match="converted from FROSTER's"):
        export_checkpoint(source, tmp_path / "out", license="apache-2.0")


def test_the_license_is_kept_through_another_layout_and_through_an_export(tmp_path):
    source = converted_froster(tmp_path / "source")
    write_original_checkpoint(source, tmp_path / "openai.pt", layout="openai")
    clip = tmp_path / "source" / "clip"
    report = convert_checkpoint(tmp_path / "openai.pt", tmp_path / "again", processor_from=clip)
    assert report.license == "cc-by-nc-sa-4.0"
    assert "license     cc-by-nc-sa-4.0" in str(report)
    with pytest.raises(ValueError, match="converted from FROSTER's"):
        export_checkpoint(tmp_path / "again", tmp_path / "out", license="mit")
    assert export_checkpoint(tmp_path / "again", tmp_path / "out").license == "cc-by-nc-sa-4.0"
    for name in ("conversion.json", "README.md"):  # Each of both alone tells whose the weights are.
        folder = shutil.copytree(tmp_path / "out", tmp_path / f"without {name}")
        (folder / name).unlink()
        with pytest.raises(ValueError, match="converted from FROSTER's"):
            export_checkpoint(folder, tmp_path / "once more", license="mit")


def test_the_license_is_kept_under_a_name_on_the_hub(converted, tmp_path, monkeypatch):
    source = converted({"projector_v.fc1.weight": "training only"})
    cache = tmp_path / "hub"
    populate_hub_cache(cache, "someone/froster", lambda folder: shutil.copytree(source, folder, dirs_exist_ok=True))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    with pytest.raises(ValueError, match="converted from FROSTER's"):
        export_checkpoint("someone/froster", tmp_path / "out", license="mit")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes in this system's folders")
def test_a_pipe_in_the_cache_of_the_hub_is_not_waited_for(tmp_path, monkeypatch):
    cache = tmp_path / "hub"
    populate_hub_cache(
        cache,
        "someone/froster",
        lambda folder: [os.mkfifo(folder / name) for name in ("README.md", "conversion.json")],
    )
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    assert stated_license("someone/froster") is None


@pytest.mark.parametrize(
    "text", ["[]", "{", "[" * 100_000, '{"source": 1, "layout": "froster", "sha256": 2, "left_out": []}']
)
def test_a_report_that_is_none_is_refused(checkpoint, text, tmp_path):
    folder = shutil.copytree(checkpoint, tmp_path / "copy")
    (folder / "conversion.json").write_text(text)
    with pytest.raises(ValueError, match=r"conversion\.json"):
        export_checkpoint(folder, tmp_path / "out")


@pytest.mark.parametrize(
    "card",
    [
        "---\nlicense: {a: b}\n---\n",
        "---\nlicense: [a, b]\n---\n",
        "---\n[\n---\n",
        "---\n- a\n---\n",
        "\x00",
        "---\nlicense: mit\n---",
        "---\nlicense: MIT # mit\n---",
        "\ufeff---\nlicense: mit\n---",
        "---\nlicense:\n- mit\n---",
    ],
)
def test_a_card_of_any_kind_is_read_or_passed_over(checkpoint, card, tmp_path):
    folder = shutil.copytree(checkpoint, tmp_path / "copy")
    (folder / "README.md").write_text(card)
    assert card_license(folder) == ("mit" if "mit" in card else None)


@pytest.mark.parametrize("license", ["CC-BY-NC-SA-4.0", "[cc-by-nc-sa-4.0]", "[mit, cc-by-nc-sa-4.0]"])
def test_weights_keep_the_license_of_froster_however_a_card_writes_it(checkpoint, license, tmp_path):
    folder = shutil.copytree(checkpoint, tmp_path / "copy")
    (folder / "README.md").write_text(f"\ufeff---\nlicense: {license}\n---\n", encoding="utf-8")
    with pytest.raises(ValueError, match="converted from FROSTER's"):
        export_checkpoint(folder, tmp_path / "out", license="mit")


MERGED = "".join(f"k{i + 1}: &k{i + 1} {{<<: [{', '.join([f'*k{i}'] * 10)}]}}\n" for i in range(9))
CARDS_THAT_MULTIPLY = {
    "merges within merges": f"k0: &k0 {{a: 1}}\n{MERGED}",
    "aliases of results": "a: &a {type: x}\nmodel-index: [*a, *a]\n",
}


@pytest.mark.parametrize("case", CARDS_THAT_MULTIPLY)
def test_a_card_that_would_be_multiplied_out_is_passed_over(checkpoint, case, tmp_path):
    folder = shutil.copytree(checkpoint, tmp_path / "copy")
    (folder / "README.md").write_text(f"---\nlicense: mit\n{CARDS_THAT_MULTIPLY[case]}---\n")
    assert card_license(folder) is None
    assert export_checkpoint(folder, tmp_path / "out", license="apache-2.0").license == "apache-2.0"


def test_converted_weights_of_the_same_layout_may_state_another_license(converted, tmp_path):
    assert export_checkpoint(converted({}), tmp_path / "out", license="mit").license == "mit"


def test_labels_without_embeddings_and_taken_folders_are_refused(checkpoint, tmp_path):
    named = AutoModelForVideoClassification.from_pretrained(checkpoint, id2label={0: "a", 1: "b"})
    named.save_pretrained(tmp_path / "named")
    tiny_processor().save_pretrained(tmp_path / "named")
    with pytest.raises(ValueError, match="2 label names without embeddings"):
        export_checkpoint(tmp_path / "named", tmp_path / "out")
    with pytest.raises(ValueError, match="not an empty folder"):
        export_checkpoint(checkpoint, tmp_path / "named")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\nlicenze: mit", "unknown fields licenze"),
        ("summary: a", "the fields name are missing"),
        ("name: [", "is not valid YAML"),
        ("name: a\npublished: [{setting: s, metric: m, value: 1}]", "published_source"),
        ("name: a\npublished: [{setting: s}]", "missing"),
        ("name: a\npublished_source: javascript:alert(1)", "not an https URL"),
        ("name: a\nbase_model: ../etc", "etc"),
        ("name: a\nbenchmarks: {x: {dataset_id: a/b}}", "task_id"),
        ("name: a\nbenchmarks: {x: {dataset_id: ../../b, task_id: c}}", "Repo id must"),
        ("name: a\ncitation: '```'", "block of code"),
    ],
)
def test_facts_that_cannot_stand_are_named(tmp_path, text, message):
    file = tmp_path / "facts.yaml"
    file.write_text(text)
    with pytest.raises((ValueError, HFValidationError), match=message):
        load_card_facts(file)


@pytest.mark.parametrize("field", ["base_model", "datasets"])
def test_a_name_in_the_facts_that_acts_on_a_terminal_is_one_printable_line(tmp_path, field):
    name = "x/\x1b]0;owned\x07\x1b[31my\nfroster: all is well" + "y" * 20_000
    file = tmp_path / "facts\x1b.yaml"
    file.write_text(json.dumps({"name": "m", field: name if field == "base_model" else [name]}))
    with pytest.raises(ValueError, match="all is well") as raised:
        load_card_facts(file)
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 5_000


def test_what_the_hub_answers_an_upload_with_is_printed_in_one_line(checkpoint, tmp_path, monkeypatch, capsys):
    answer = types.SimpleNamespace(pr_url=None, commit_url="https://hub/\x1b[31m\nuploaded  elsewhere")
    monkeypatch.setattr("froster_hf.hub.push_folder", lambda *args, **options: answer)
    assert main(["export", str(checkpoint), str(tmp_path / "out"), "--push-to-hub", "me/x"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1] == r"uploaded  https://hub/\x1b[31m\nuploaded  elsewhere"


def test_options_of_the_command_line_contradict_in_words(checkpoint, tmp_path, capsys):
    assert main(["export", str(checkpoint), str(tmp_path / "out"), "--private"]) == 1
    assert "only with --push-to-hub" in capsys.readouterr().err
    facts = tmp_path / "facts.yaml"
    facts.write_text("name: a\nlicense: mit")
    assert main(["export", str(checkpoint), str(tmp_path / "out"), "--facts", str(facts), "--license", "gpl"]) == 1
    assert "'mit'" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["base_to_novel_hmdb51", "cross_dataset_hmdb51"])
def test_what_froster_evaluate_writes_is_what_the_card_shows(name, checkpoint, hmdb51_data, tmp_path):
    as_evaluated = pipeline("zero-shot-video-classification", model=str(checkpoint), dtype="float32")
    protocol = load_protocol(name, ["num_views=1", "frame_stride=2"])
    measured = evaluate_protocol(
        protocol,
        models=as_evaluated.model,
        processor=as_evaluated.processor,
        data={"root": hmdb51_data.root, "annotations": hmdb51_data.annotations, "missing": "drop"},
        output_dir=tmp_path / "result",
    )["results"]["this checkpoint"]
    results = export_checkpoint(checkpoint, tmp_path / "out", results=[tmp_path / "result"]).results
    found = {(result.part, result.metric): result.value for result in results}
    if name.startswith("base"):
        assert found["all", "harmonic_mean"] == measured["harmonic_mean"]
        assert (found["base", "top1"], found["novel", "top1"]) == (measured["base"], measured["novel"])
    else:
        assert found["full", "top1"] == measured["full"]
        assert (found["all", "splits_mean"], found["all", "splits_std"]) == (
            measured["splits_mean"],
            measured["splits_std"],
        )
    card = (tmp_path / "out" / "README.md").read_text()
    assert "published" in card.partition("remarks |")[2], "other counts than the published ones are told"


def test_a_license_that_cannot_be_looked_up_is_told_once():
    """What a pipeline has left in the cache has neither a card nor a report."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("default")
        assert stated_license("somebody/in-the-cache") is None
    (said,) = found
    assert "somebody/in-the-cache are under cannot be looked up: the Hub cannot be reached" in str(said.message)
