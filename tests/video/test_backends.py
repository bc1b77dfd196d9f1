"""The table of backends: one entry, and a module with two functions, are all that a new one needs."""

import importlib
import sys

import pytest

from froster_hf.cli import build_parser
from froster_hf.cli.verbs import info
from froster_hf.evaluation.report import package_versions
from froster_hf.video import client
from froster_hf.video.backends import AUTO_BACKEND, BACKENDS, Backend, backend_choices
from froster_hf.video.decoding import VideoDecodeError, decode_frames
from tests.fixtures.videos import read_index
from tests.processing.test_video_processor import pixels, small_processor

TOY = """
import importlib

def load():
    importlib.import_module("av")

def read(handle, reader, wanted, threads):
    assert handle.tell() == 0
    # One level of gray lighter, as another build of FFmpeg may be.
    return {index: frame // 2 * 2 + 1 for index, frame in reader.read(wanted).items()}
"""
MP4 = "mov,mp4,m4a,3gp,3g2,mj2"


@pytest.fixture
def register(tmp_path, monkeypatch):
    """Writes a module and makes it the backend "toy"."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(client, "_idle", [])

    def register(code: str, **options) -> None:
        (tmp_path / "toy_backend.py").write_text(code)
        importlib.invalidate_caches()
        options = {"distributions": ("pytest",), "containers": (MP4,), **options}
        monkeypatch.setitem(BACKENDS, "toy", Backend("toy_backend", **options))

    yield register
    sys.modules.pop("toy_backend", None)


def test_a_new_backend_is_one_entry(video_file, register):
    register(TOY)
    path = video_file("h264_mp4")
    frames, decoded = decode_frames(path, [31, 4], backend="toy")
    assert [read_index(frame.numpy()) for frame in frames] == [31, 4]
    assert decoded.backend == "toy"
    # It was the toy that read them.
    assert bool((frames % 2 == 1).all())
    assert pixels(small_processor(video_backend="toy"), path).shape == (1, 4, 3, 32, 32)
    with pytest.raises(ValueError, match="'toy', but a stream is read by PyAV alone"):
        small_processor(video_backend="toy").stream_frames(path, [0.0])
    with pytest.raises(VideoDecodeError, match="with toy: it does not read 'gif' files"):
        decode_frames(video_file("gif"), [0], backend="toy")
    arguments = build_parser().parse_args(["predict", "clip.mp4", "--labels", "a", "--backend", "toy"])
    assert arguments.backend == "toy"
    assert info.collect()["decoders"]["toy"] == "works"
    assert package_versions()["pytest"] == pytest.__version__


def test_a_backend_that_returns_another_frame_is_found_out(video_file, register):
    register(TOY.replace("reader.read(wanted).items()", "zip(wanted, reader.read([i + 1 for i in wanted]).values())"))
    with pytest.raises(VideoDecodeError, match="with toy: it returned another picture than frame 7"):
        decode_frames(video_file("h264_mp4"), [7], backend="toy")
    assert "does not work" in info.collect()["decoders"]["toy"]


def test_a_backend_that_does_not_load_says_what_installs_it(video_file, register):
    register("def load():\n    raise ImportError('no toy here')\n", extra="toys")
    with pytest.raises(ImportError, match=r"'toy' cannot be used here: .*no toy here.*froster-hf\[toys\]"):
        decode_frames(video_file("h264_mp4"), [0], backend="toy")


def test_a_name_that_is_not_in_the_table_is_refused_everywhere(video_file):
    for refuse in (
        lambda: decode_frames(video_file("h264_mp4"), [0], backend="toy"),
        lambda: small_processor(video_backend="toy"),
        lambda: pixels(small_processor(), video_file("h264_mp4"), video_backend="toy"),
    ):
        with pytest.raises(ValueError, match="'toy', but must be one of 'auto', 'pyav', 'decord', 'torchcodec'"):
            refuse()


def test_every_entry_has_its_module_and_auto_is_the_strict_reader():
    for backend in BACKENDS.values():
        module = importlib.import_module(backend.module, "froster_hf.video")
        assert callable(module.load)
        assert hasattr(module, "read") == (backend.containers is not None)
    assert BACKENDS[AUTO_BACKEND].containers is None
    assert backend_choices() == ["auto", *BACKENDS]
