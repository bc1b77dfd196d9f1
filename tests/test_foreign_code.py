"""A folder that this package writes names only code of its own, whatever lay in it before."""

import json
import shutil
from pathlib import Path

import pytest

import froster_hf
from froster_hf import FrosterForVideoClassification, FrosterProcessor
from froster_hf.checkpoint_loading import load_pipeline
from froster_hf.foreign_code import drop_foreign_code
from froster_hf.training import FrosterTrainer, FrosterTrainingArguments
from tests.fixtures.tiny import save_tiny_checkpoint

PACKAGE = Path(froster_hf.__file__).parent
OWN = "configuration_froster"


@pytest.fixture
def folder(tmp_path):
    for original in (PACKAGE / "modeling").glob("*_froster.py"):
        shutil.copyfile(original, tmp_path / original.name)
    return tmp_path


def write(path: Path, content) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def test_own_references_stay_and_the_file_is_not_touched(folder):
    content = {
        "auto_map": {"AutoConfig": f"{OWN}.FrosterConfig", "AutoTokenizer": [f"{OWN}.FrosterConfig", None]},
        "custom_pipelines": {"task": {"impl": f"{OWN}.FrosterConfig", "pt": ["AutoModel"]}},
    }
    file = write(folder / "config.json", content)
    before = file.read_bytes()
    assert drop_foreign_code(folder) == []
    assert file.read_bytes() == before
    assert (folder / f"{OWN}.py").exists()


@pytest.mark.parametrize(
    "reference",
    [
        "attacker/repo--evil.E",
        f"attacker/repo--{OWN}.FrosterConfig",
        ["attacker/repo--evil.E", None],
        [f"{OWN}.FrosterConfig", "attacker/repo--evil.E"],
        "evil.E",
        "not_there.E",
        f"..{OWN}.FrosterConfig",
        f"{OWN}.py.E",
        # What it imports is not its own.
        f"{OWN}.transformers",
        f"{OWN}.AutoConfig",
        OWN,
        "",
        7,
        None,
        {"impl": f"{OWN}.FrosterConfig"},
    ],
    ids=repr,
)
def test_other_references_are_dropped_and_named(folder, reference):
    (folder / "evil.py").write_text("class E: ...")
    file = write(
        folder / "tokenizer_config.json",
        {"a": 1, "auto_map": {"AutoTokenizer": reference, "AutoConfig": f"{OWN}.FrosterConfig"}},
    )
    dropped = drop_foreign_code(folder)
    assert json.loads(file.read_text()) == {"a": 1, "auto_map": {"AutoConfig": f"{OWN}.FrosterConfig"}}
    assert [line for line in dropped if line.startswith("tokenizer_config.json: AutoTokenizer: ")]
    assert not (folder / "evil.py").exists()


@pytest.mark.parametrize(
    "content",
    [
        {"auto_map": ["attacker/repo--evil.E", None]},
        {"auto_map": "attacker/repo--evil.E"},
        {"custom_pipelines": {"task": {"impl": "attacker/repo--evil.E", "pt": ["AutoModel"]}}},
        {"custom_pipelines": {"task": "evil.E"}},
        {"custom_pipelines": {"task": {"impl": f"{OWN}.FrosterConfig", "pt": ["evil"]}}},
        {"custom_pipelines": {"task": {"impl": f"{OWN}.FrosterConfig", "pt": ["AutoModelForEvil"], "x": "evil"}}},
        {"custom_pipelines": {"task": {"impl": f"{OWN}.FrosterConfig", "pt": ["AutoModel"], "default": "evil"}}},
        {"custom_pipelines": ["evil.E"]},
        {"video_processor": {"auto_map": {"AutoVideoProcessor": "evil.E"}}},
        [{"deep": [[{"auto_map": {"AutoModel": "evil.E"}}]]}],
    ],
    ids=repr,
)
@pytest.mark.parametrize("name", ["config.json", "any_name.json", "sub/config.json"])
def test_references_are_found_in_every_file_at_any_depth(folder, name, content):
    file = write(folder / name, content)
    assert len(drop_foreign_code(folder)) == 1
    left = file.read_text()
    assert "evil" not in left
    assert "auto_map" not in left
    assert "custom_pipelines" not in left


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", {"id2label": {"0": "auto_map"}, "label2id": {"auto_map": 0, "custom_pipelines": 1}}),
        (
            "processor_config.json",
            {"label_descriptions": {"auto_map": "a map is folded.", "custom_pipelines": ["a", "b"]}},
        ),
        ("tokenizer.json", {"model": {"vocab": {"auto_map": 7, "custom_pipelines": 8}}}),
        ("vocab.json", {"auto_map": 0, "custom_pipelines": 1}),
    ],
)
def test_labels_and_tokens_may_be_called_as_references_are(folder, name, content):
    file = write(folder / name, content)
    assert drop_foreign_code(folder) == []
    assert json.loads(file.read_text()) == content


def test_a_reference_is_followed_beside_its_file_only(folder):
    """What is own at the top is not there in a subfolder, where anything could take its place later."""
    write(folder / "sub" / "config.json", {"auto_map": {"AutoConfig": f"{OWN}.FrosterConfig"}})
    assert len(drop_foreign_code(folder)) == 1


@pytest.mark.parametrize("altered", [False, True])
def test_code_that_was_altered_is_not_own_nor_is_what_imports_it(tmp_path, altered):
    for original in (PACKAGE / "modeling").glob("*_froster.py"):
        shutil.copyfile(original, tmp_path / original.name)
    if altered:
        with (tmp_path / f"{OWN}.py").open("a") as file:
            file.write("import os\n")
    config = write(tmp_path / "config.json", {"auto_map": {"AutoModel": "modeling_froster.FrosterModel"}})
    dropped = drop_foreign_code(tmp_path)
    assert bool(dropped) == altered
    for name in (f"{OWN}.py", "modeling_froster.py"):
        assert (tmp_path / name).exists() != altered
    assert ("auto_map" in json.loads(config.read_text())) != altered


def test_what_is_said_of_hostile_names_is_short_and_printable(folder):
    write(folder / "config.json", {"auto_map": {"\x1b[2J" + "a" * 10**6: "evil\x1b[31m" + "b" * 10**6}})
    (said,) = drop_foreign_code(folder)
    assert said.isprintable()
    assert len(said) < 1000


@pytest.mark.parametrize("text", ["{", "[" * 100_000, '{"a": "\\ud800'], ids=["cut", "deep", "surrogate"])
def test_a_file_that_is_no_json_is_named(folder, text):
    (folder / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"config\.json' cannot|config\.json cannot be read as JSON"):
        drop_foreign_code(folder)


@pytest.fixture
def stranger(tmp_path):
    """A checkpoint as this package saves it, whose files name code of another repository as well."""
    folder = save_tiny_checkpoint(tmp_path / "stranger")
    foreign = dict.fromkeys(("AutoModelForCausalLM", "AutoModel", "AutoProcessor"), "attacker/repo--evil.E")
    foreign |= {"AutoTokenizer": ["attacker/repo--evil.E", None], "AutoVideoProcessor": "evil.E", "AutoNone": None}
    pipelines = {"other": {"impl": "attacker/repo--evil.E", "pt": ["AutoModel"]}, "third": "evil.E"}
    own = "pipeline_froster.ZeroShotVideoClassificationPipeline"
    pipelines["fourth"] = {"impl": own, "pt": ["AutoModel"], "auto_map": foreign}
    for path in folder.glob("*_config.json"), folder.glob("config.json"):
        for file in path:
            content = json.loads(file.read_text())
            for name in ("video_processor", "text_config"):
                if name in content:
                    content[name] |= {"auto_map": {**content[name].get("auto_map", {}), **foreign}}
            content |= {"auto_map": {**content.get("auto_map", {}), **foreign}, "custom_pipelines": pipelines}
            if file.name == "config.json":
                content["unknown"] = [{"auto_map": foreign}]
            file.write_text(json.dumps(content))
    return folder


def save_parts(folder, out):
    FrosterForVideoClassification.from_pretrained(folder).save_pretrained(out)
    FrosterProcessor.from_pretrained(folder).save_pretrained(out)


def save_pipeline(folder, out):
    load_pipeline(folder).save_pretrained(out)


def save_trained(folder, out):
    arguments = FrosterTrainingArguments(output_dir=str(out / "run"), report_to="none", use_cpu=True)
    model, processor = FrosterForVideoClassification.from_pretrained(folder), FrosterProcessor.from_pretrained(folder)
    FrosterTrainer(model, arguments, processing_class=processor, labels=("run", "walk")).save_model(str(out))


@pytest.mark.parametrize("save", [save_parts, save_pipeline, save_trained])
def test_what_is_loaded_and_saved_again_names_own_code_only(stranger, tmp_path, save):
    """Also pushed to the Hub it is as it was saved; the stranger's code would run with `trust_remote_code=True`."""
    out = tmp_path / "out"
    save(stranger, out)
    for path in out.rglob("*.json"):
        assert "evil" not in path.read_text(), path
        assert "AutoNone" not in path.read_text(), path
    assert json.loads((out / "config.json").read_text())["auto_map"] == {
        "AutoConfig": "configuration_froster.FrosterConfig",
        "AutoModel": "modeling_froster.FrosterModel",
        "AutoModelForVideoClassification": "modeling_froster.FrosterForVideoClassification",
    }
    processor = json.loads((out / "processor_config.json").read_text())
    own = {
        "AutoProcessor": "processing_froster.FrosterProcessor",
        "AutoVideoProcessor": "video_processing_froster.FrosterVideoProcessor",
    }
    assert processor["video_processor"]["auto_map"] == own
    assert processor["auto_map"] == {"AutoProcessor": own["AutoProcessor"]}
    assert drop_foreign_code(out) == []
