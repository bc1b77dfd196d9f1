"""From `froster export --push-to-hub` to a pipeline in a process without the package, over real connections."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import HfApi, ModelCard, ModelInfo

from froster_hf.hub import export_checkpoint, push_folder, upload
from froster_hf.hub.export_folder import SENTENCE_TRANSFORMERS_FILES
from froster_hf.printing import printable
from froster_hf.weights_license import MAX_BYTES
from tests.fixtures.real_videos import REAL_VIDEOS
from tests.hub.loopback_hub import REVISION, LoopbackHub
from tests.modeling.test_loading import run_without_the_package

REPO = "somebody/tiny-froster"
FROSTER = str(Path(sys.executable).parent / "froster")
LABELS = ["riding a bike", "playing golf", "cooking"]
CLASSIFY = f"""
import json
from transformers import pipeline

classify = pipeline("zero-shot-video-classification", model={REPO!r}, trust_remote_code=True)
assert "transformers_modules" in type(classify.model).__module__, type(classify.model)
print(json.dumps(classify(sys.argv[1], candidate_labels={LABELS!r})))
"""


@pytest.fixture
def hub():
    hub = LoopbackHub(REPO)
    yield hub
    hub.close()


def test_the_client_uploads_the_export_in_one_commit(hub, checkpoint, tmp_path, monkeypatch):
    folder = export_checkpoint(checkpoint, tmp_path / "out", license="mit", max_shard_size="100KB").folder
    # The tokenizer of SigLIP where sentencepiece is installed.
    (folder / "spiece.model").write_bytes(b"pieces")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    commit = push_folder(folder, REPO, private=True, api=HfApi(endpoint=hub.endpoint, token="hf_not_a_token"))
    assert commit.oid == REVISION
    assert "private" in str(hub.created)
    assert hub.files == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert ModelCard(hub.validated[0]).data.license == "mit", "the client sent the card to the Hub's validator"
    assert [path for _, path in hub.requests].count(f"/api/models/{REPO}/commit/main") == 1


def test_an_upload_leaves_nothing_of_the_export_before_it_and_all_that_somebody_has_added(
    hub, checkpoint, tmp_path, monkeypatch
):
    folder = export_checkpoint(checkpoint, tmp_path / "out", license="mit", max_shard_size="100KB").folder
    former = ("model.safetensors", "model-00001-of-00099.safetensors", "old_froster.py", "preprocessor_config.json")
    former += ("towers/towers.json", "towers/video_tower.onnx", ".eval_results/a--b.yaml", "spiece.model")
    former += ("adapter_config.json",)
    added = {
        "LICENSE",
        "adapter_model.safetensors",
        "towers/mine.pt2",
        "examples/my_froster.py",
        "model-a/b-of-c.safetensors",
        ".gitattributes",
    }
    hub.files = dict.fromkeys((*former, *added, "README.md", "config.json"), b"former")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    push_folder(folder, REPO, api=HfApi(endpoint=hub.endpoint, token="hf_not_a_token"))
    assert {name for name, content in hub.files.items() if content == b"former"} == added
    assert set(hub.files) - added == {path.name for path in folder.iterdir()}
    assert [path for _, path in hub.requests].count(f"/api/models/{REPO}/commit/main") == 1


@pytest.mark.slow
def test_what_is_pushed_is_downloaded_and_runs_online_and_then_offline_without_the_package(
    hub, checkpoint, tmp_path, monkeypatch
):
    environment = {"HF_ENDPOINT": hub.endpoint, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "home")}
    environment |= {"HF_TOKEN": "hf_not_a_token", "OMP_NUM_THREADS": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    command = [FROSTER, "export", str(checkpoint), str(tmp_path / "out"), "--license", "mit"]
    command += ["--push-to-hub", REPO, "--private", "--max-shard-size", "100KB"]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert f"uploaded  {hub.endpoint}/{REPO}/commit/{REVISION}" in finished.stdout
    assert f'model="{REPO}"'.encode() in hub.files["README.md"]

    online = json.loads(run_without_the_package(CLASSIFY, str(REAL_VIDEOS["bikes"])))
    assert {answer["label"] for answer in online} == set(LABELS)
    snapshot = tmp_path / "home" / "hub" / f"models--{REPO.replace('/', '--')}" / "snapshots" / REVISION
    shards = list(snapshot.glob("model-*.safetensors"))
    assert len(shards) > 1
    assert all(shard.is_symlink() for shard in shards), "the cache's real layout"
    asked = len(hub.requests)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert json.loads(run_without_the_package(CLASSIFY, str(REAL_VIDEOS["bikes"]))) == online
    assert len(hub.requests) == asked


class FakeApi(HfApi):
    """Takes the calls, sends nothing."""

    def __init__(self):
        super().__init__()
        self.calls = {}

    def create_repo(self, repo_id, **options):
        from huggingface_hub import RepoUrl

        self.calls["create_repo"] = options
        return RepoUrl(f"https://huggingface.co/{repo_id}")

    def model_info(self, repo_id, **options):
        return ModelInfo(id=repo_id, sha="before", siblings=[])

    def create_commit(self, repo_id, operations, **options):
        names = {operation.path_in_repo for operation in operations}
        contents = {}
        for operation in operations:
            with operation.as_file() as file:
                contents[operation.path_in_repo] = file.read()
        self.calls["create_commit"] = {"repo_id": repo_id, "names": names, "contents": contents, **options}


def test_files_that_training_leaves_behind_are_not_uploaded(checkpoint, tmp_path):
    folder = export_checkpoint(checkpoint, tmp_path / "out").folder
    # It holds the access token in clear.
    secrets = {
        "training_args.bin",
        "optimizer.pt",
        "rng_state.pth",
        "events.out.tfevents",
        ".env",
        "checkpoint-2/a.json",
        ".env.json",
        "client_secret.json",
        "trainer_state.json",
        "my_key.py",
        ".hidden.safetensors",
        "towers/a.pt2",
    }
    exported = {
        "towers/towers.json",
        ".eval_results/a--b.yaml",
        "towers/video_tower.onnx",
        "towers/video_tower.onnx.data",
    }
    for name in secrets | exported:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("secret")
    api = FakeApi()
    with pytest.warns(UserWarning, match=r"a\.pt2 of .*towers are not uploaded: `torch.export.load` runs"):
        push_folder(folder, REPO, create_pr=True, revision="dev", api=api)
    options = api.calls["create_commit"]
    assert (options["repo_id"], options["create_pr"], options["revision"]) == (REPO, True, "dev")
    # Of two uploads at once, the Hub refuses the later one.
    assert options["parent_commit"] == "before"
    assert api.calls["create_repo"]["exist_ok"] is True
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert names - options["names"] == secrets


@pytest.mark.parametrize("name", ["vocab.json", "README.md", "towers/a.onnx", ".eval_results/a.yaml"])
def test_what_is_behind_a_link_is_not_uploaded(checkpoint, tmp_path, name):
    folder = export_checkpoint(checkpoint, tmp_path / "out").folder
    (tmp_path / "secret").write_text("secret")
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(tmp_path / "secret")
    api = FakeApi()
    with pytest.raises(ValueError, match="outside of the checkpoint's folder"):
        push_folder(folder, REPO, api=api)
    assert not api.calls


@pytest.mark.parametrize("name", ["towers/a.onnx", ".eval_results/a.yaml"])
def test_a_link_to_a_folder_is_not_uploaded(checkpoint, tmp_path, name):
    folder = export_checkpoint(checkpoint, tmp_path / "out").folder
    file = tmp_path / "secrets" / Path(name).name
    file.parent.mkdir()
    file.write_text("secret")
    (folder / name).parent.symlink_to(file.parent)
    api = FakeApi()
    with pytest.raises(ValueError, match="is a link, which is not followed"):
        push_folder(folder, REPO, api=api)
    assert not api.calls


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("evil_froster.py", "import os"),
        ("\x1b[2J_froster.py", "import os"),
        ("pipeline_froster.py", "import os"),
        ("config.json", {"auto_map": {"AutoTokenizer": "attacker/repo--evil.E"}}),
        ("config.json", {"auto_map": {"AutoTokenizer": "processing_froster.subprocess"}}),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["evil.E", None]}}),
        ("modules.json", [{"idx": 0, "name": "0", "path": "", "type": "attacker/repo--evil.E"}]),
        ("sentence_bert_config.json", {"model_args": {"attn_implementation": "attacker/kernels"}}),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_code_that_is_not_the_packages_own_is_refused_by_name_and_not_uploaded(checkpoint, tmp_path, name, content):
    folder = export_checkpoint(checkpoint, tmp_path / "out").folder
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    api = FakeApi()
    with pytest.raises(ValueError, match=re.escape(printable(name))) as raised:
        push_folder(folder, REPO, api=api)
    assert str(raised.value).isprintable()
    assert not api.calls


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("config.json", {"attn_implementation": "attacker/kernels"}),
        ("config.json", {"text_config": {"_attn_implementation": "attacker/kernels"}}),
        ("config.json", {"transformers_weights": "model-00001-of-00001.safetensors"}),
        ("config.json", {"configuration_files": ["config.4.0.0.json"]}),
        ("config.json", {"text_config": {"quantization_config": {"quant_method": "mxfp4"}}}),
        ("processor_config.json", {"audio_tokenizer": {"audio_tokenizer_name_or_path": "attacker/repo"}}),
        ("processor_config.json", {"processor_class": "DiaProcessor"}),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_a_file_that_names_something_else_to_load_is_refused_and_not_uploaded(checkpoint, tmp_path, name, fields):
    folder = export_checkpoint(checkpoint, tmp_path / "out").folder
    stored = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(stored | fields))
    api = FakeApi()
    with pytest.raises(ValueError, match="|".join((next(iter(fields)), "_attn_implementation", "quantized by"))):
        push_folder(folder, REPO, api=api)
    assert not api.calls


@pytest.mark.parametrize("name", SENTENCE_TRANSFORMERS_FILES)
def test_settings_of_sentence_transformers_that_no_export_has_are_not_uploaded(checkpoint, tmp_path, name):
    folder = export_checkpoint(checkpoint, tmp_path / "out").folder
    stored = json.loads((folder / name).read_text())
    changed = [*stored, *stored] if isinstance(stored, list) else {**stored, "prompts": {"query": "something else "}}
    (folder / name).write_text(json.dumps(changed))
    api = FakeApi()
    with pytest.raises(ValueError, match=f"{re.escape(name)} has other modules or settings than an export has"):
        push_folder(folder, REPO, api=api)
    assert not api.calls


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model-00001-of-00002.safetensors", b"\x80\x04cos\nsystem\n", "is damaged, or not a safetensors file"),
        (".eval_results/x.yaml", b"- !!python/object/apply:os.system ['x']\n", "is not valid YAML"),
        ("conversion.json", b'{"secret": "/home/me"}', "is not a report of `froster convert`"),
    ],
)
def test_files_of_another_format_than_their_names_say_are_not_uploaded(checkpoint, tmp_path, name, content, message):
    folder = export_checkpoint(checkpoint, tmp_path / "out").folder
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)
    api = FakeApi()
    with pytest.raises(ValueError, match=re.escape(message)) as raised:
        push_folder(folder, REPO, api=api)
    assert str(raised.value).isprintable()
    assert not api.calls


def test_more_measurements_than_are_read_are_refused(checkpoint, tmp_path):
    folder = export_checkpoint(checkpoint, tmp_path / "out").folder
    (folder / ".eval_results").mkdir()
    (folder / ".eval_results" / "a.yaml").write_text("#" * 2000)
    for number in range(125):
        (folder / ".eval_results" / f"{number}.yaml").symlink_to("a.yaml")
    api = FakeApi()
    with pytest.raises(ValueError, match=r"has 252000 bytes of measurements in \.eval_results; at most 250000 "):
        push_folder(folder, REPO, api=api)
    assert not api.calls


# Ten thousand entries, so that a reader that copies them does not hang the test; five levels more fill any memory.
MERGES = "{k: 1}"
for level in range(4):
    MERGES = f"{{<<: [&b{level} {MERGES}{f', *b{level}' * 9}]}}"


@pytest.mark.parametrize(
    ("card", "message"),
    [
        (f"---\nx: {MERGES}\n---\n", "README.md is not valid YAML: aliases and anchors"),
        (f"---\r\nlicense: mit\r\nx: {MERGES}\r\n--- \r\n", "README.md is not valid YAML: aliases and anchors"),
        ("---\na: &a {type: x}\nmodel-index: [*a, *a]\n---\n", "README.md is not valid YAML: aliases and anchors"),
        ("---\nx: " + "[" * 5000 + "\n---\n", "README.md is not valid YAML: values are nested more than"),
        ("---\n- license: mit\n---\n", "README.md has to be of `field: value` lines"),
        ("---\nmodel-index: [{name: x}]\n---\n", "The results in"),
        ("---\nmodel-index: [{name: x, results: 5}]\n---\n", "The results in"),
        ("a" * (MAX_BYTES + 1), f"README.md has more than {MAX_BYTES} bytes"),
        (b"---\nlicense: mit\n---\n\xff", "README.md is not text in UTF-8"),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_a_card_whose_metadata_cannot_be_read_is_refused_before_anything_is_made(checkpoint, tmp_path, card, message):
    folder = export_checkpoint(checkpoint, tmp_path / "out").folder
    (folder / "README.md").write_bytes(card.encode() if isinstance(card, str) else card)
    api = FakeApi()
    with pytest.raises(ValueError, match=re.escape(message)) as raised:
        push_folder(folder, REPO, api=api)
    assert len(str(raised.value).splitlines()) == 1
    assert not api.calls


@pytest.mark.parametrize("card", ["# Mine\n", "---\n\n---\n", "---\ndate: 2026-01-02\n'<<': [{a: 1}]\n---\n# Mine\n"])
def test_a_card_of_ones_own_is_uploaded(checkpoint, tmp_path, card):
    folder = export_checkpoint(checkpoint, tmp_path / "out").folder
    (folder / "README.md").write_text(card)
    api = FakeApi()
    push_folder(folder, REPO, api=api)
    assert "README.md" in api.calls["create_commit"]["names"]


def without_a_shard(folder):
    max(folder.glob("model-*.safetensors")).unlink()


def with_an_index_of_one_shard(folder):
    index = folder / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    first = min(content["weight_map"].values())
    content["weight_map"] = {name: file for name, file in content["weight_map"].items() if file == first}
    index.write_text(json.dumps(content))


def with_weights_of_another_name(folder):
    index = folder / "model.safetensors.index.json"
    first = min(folder.glob("model-*.safetensors"))
    index.write_text(index.read_text().replace(first.name, "weights.safetensors"))
    first.rename(folder / "weights.safetensors")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without_a_shard, "lacks model-.*: upload the folder that"),
        (with_an_index_of_one_shard, "cannot be loaded: "),
        (with_weights_of_another_name, "lacks weights.safetensors: upload the folder that"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "cannot be loaded: "),
        (lambda folder: (folder / "processor_config.json").unlink(), "cannot be loaded: "),
        (lambda folder: [path.unlink() for path in folder.glob("model*")], "holds no weights"),
    ],
)
def test_a_folder_that_does_not_load_is_not_uploaded(checkpoint, tmp_path, spoil, message):
    """What the repository has would be deleted."""
    folder = export_checkpoint(checkpoint, tmp_path / "out", max_shard_size="50KB").folder
    spoil(folder)
    api = FakeApi()
    with pytest.raises(ValueError, match=message):
        push_folder(folder, REPO, api=api)
    assert not api.calls


def test_the_folder_that_is_uploaded_is_the_one_that_was_checked(checkpoint, tmp_path, monkeypatch):
    """The client takes `~` for the home folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    folder = export_checkpoint(checkpoint, "~/export").folder
    assert (tmp_path / "~" / "export").is_dir()
    api = FakeApi()
    push_folder(folder, REPO, api=api)
    stored = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert api.calls["create_commit"]["contents"] == stored


def replaced_by_a_link(path):
    path.unlink()
    path.symlink_to("/etc/hostname")


@pytest.mark.parametrize(
    ("moment", "change"),
    [
        ("load_for_export", Path.unlink),
        ("create_repo", replaced_by_a_link),
        ("create_commit", lambda path: path.write_bytes(path.read_bytes())),
    ],
)
def test_what_changes_after_the_check_is_not_uploaded_as_if_it_were_checked(
    checkpoint, tmp_path, monkeypatch, moment, change
):
    """Files that may name code are held from the check to the commit; weights are read as they are sent."""
    folder = export_checkpoint(checkpoint, tmp_path / "out").folder
    stored = {path.name: path.read_bytes() for path in folder.iterdir()}
    api = FakeApi()
    place = "froster_hf.hub.upload.load_for_export" if moment == "load_for_export" else f"{__name__}.FakeApi.{moment}"
    before = getattr(upload, moment) if moment == "load_for_export" else getattr(FakeApi, moment)

    def meanwhile(*args, **options):
        done = before(*args, **options)
        change(folder / name)
        return done

    monkeypatch.setattr(place, meanwhile)
    name = "model.safetensors"
    with pytest.raises(ValueError, match=r"model\.safetensors changed since the check of the folder"):
        push_folder(folder, REPO, api=api)
    assert ("create_commit" in api.calls) is (moment == "create_commit")
    (folder / name).unlink(missing_ok=True)
    (folder / name).write_bytes(stored[name])
    name = "config.json"
    if moment == "load_for_export":
        with pytest.raises(ValueError, match=r"config\.json changed since the check of the folder"):
            push_folder(folder, REPO, api=api)
    else:
        push_folder(folder, REPO, api=api)
        assert api.calls["create_commit"]["contents"] == stored


def test_a_folder_that_is_no_export_is_refused_before_anything_is_made(checkpoint, tmp_path):
    api = FakeApi()
    with pytest.raises(ValueError, match=r"lacks README\.md, pipeline_froster\.py"):
        push_folder(checkpoint, REPO, api=api)
    assert not api.calls
