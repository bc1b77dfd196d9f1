"""The processor as code of a Hub repository without the package: transformers' own loader reads the files."""

import json

import pytest
import torch

from tests.fixtures.forks import run_python
from tests.fixtures.hidden import hiding
from tests.fixtures.real_videos import REAL_VIDEOS
from tests.fixtures.tiny import tiny_model, tiny_processor
from tests.modeling.test_loading import populate_hub_cache

SCRIPT = (
    hiding("froster_hf")
    + """
import io, json, pathlib
import torch
from PIL import Image
from transformers import AutoProcessor

bikes, damaged, folder, out = sys.argv[1:]
processor = AutoProcessor.from_pretrained("visual-ai/froster-b16", trust_remote_code=True)
read = processor.video_processor
assert "transformers_modules" in type(read).__module__

def pixels(video, **options):
    return read(video, return_tensors="pt", **options)["pixel_values_videos"]

data = pathlib.Path(bikes).read_bytes()
forms = {"path": bikes, "bytes": data, "file": io.BytesIO(data), "row": {"path": None, "bytes": data}}
torch.save({name: pixels(video) for name, video in forms.items()}, out)
pixels([Image.new("RGB", (64, 48))] * 3)

def refusal(call):
    try:
        call()
    except Exception as error:
        return [type(error).__name__, str(error)]

print(json.dumps({
    "damaged": refusal(lambda: pixels(damaged)),
    "url": refusal(lambda: pixels("https://videos.test/clip.mp4")),
    "folder": refusal(lambda: pixels(folder)),
    "image files": refusal(lambda: pixels([[folder + "/1.png"] * 2])),
    "limits": refusal(lambda: pixels(bikes, video_limits={"max_frames": 10})),
    "urls": refusal(lambda: pixels(bikes, allow_urls="https")),
    "stream": refusal(lambda: read.stream_frames(bikes, [0.0])),
}))
"""
)


@pytest.fixture(scope="module")
def without_the_package(tmp_path_factory):
    """The processor, what it read, what it refused, and what it said on standard error."""
    folder = tmp_path_factory.mktemp("without")
    processor = tiny_processor()

    def save(checkpoint):
        tiny_model().save_pretrained(checkpoint)
        processor.save_pretrained(checkpoint)

    populate_hub_cache(folder / "hub", "visual-ai/froster-b16", save)
    damaged = folder / "damaged.mp4"
    damaged.write_bytes(REAL_VIDEOS["bikes"].read_bytes()[:3000])
    environment = {"HF_HOME": str(folder), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    arguments = [REAL_VIDEOS["bikes"], damaged, folder, folder / "read.pt"]
    done = run_python("-I", "-c", SCRIPT, *arguments, env=environment, cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    read = torch.load(folder / "read.pt", weights_only=True)
    return processor, read, json.loads(done.stdout.splitlines()[-1]), done.stderr


@pytest.mark.parametrize("form", ["path", "bytes", "file", "row"])
def test_files_are_read_by_transformers_own_loader(without_the_package, form):
    processor, read, _, _ = without_the_package
    expected = processor.video_processor(str(REAL_VIDEOS["bikes"]), return_tensors="pt")["pixel_values_videos"]
    assert torch.equal(read[form], expected)


def test_what_the_package_adds_is_said_once(without_the_package):
    assert without_the_package[3].count("`pip install froster-hf` adds exact decoding") == 1


@pytest.mark.parametrize(
    ("asked", "kind", "reason"),
    [
        ("damaged", "ValueError", "damaged.mp4"),
        ("url", "ValueError", "it is not a file; URLs and folders of frames are read by the package"),
        ("folder", "ValueError", "it is not a file; URLs and folders of frames are read by the package"),
        ("image files", "ValueError", "1.png': image files are read by the package"),
        ("limits", "ValueError", "`video_limits` is {'max_frames': 10}, which takes the package"),
        ("urls", "ValueError", "`allow_urls` is 'https', which takes the package"),
        ("stream", "ImportError", "Long videos are read as streams by the package"),
    ],
)
def test_what_takes_the_package_is_refused_by_name(without_the_package, asked, kind, reason):
    found_kind, message = without_the_package[2][asked]
    assert found_kind == kind
    assert reason in message
    assert asked == "damaged" or "`pip install froster-hf`" in message
