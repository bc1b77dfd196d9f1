"""Whether a file is all there, by what its container says; whatever bytes the container holds."""

import contextlib
import io

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from froster_hf.video.truncation import check_complete
from froster_hf.video.types import UnreadableVideoError
from tests.fixtures.videos import VIDEO_KINDS

BEGINNINGS = {
    "mov,mp4,m4a,3gp,3g2,mj2": [b"", b"\0\0\0\x08ftyp", b"\0\0\0\x01mdat"],
    "matroska,webm": [b"", b"\x1a\x45\xdf\xa3", b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67"],
    "avi": [b"", b"RIFF"],
    "gif": [b"", b"GIF89a"],
    "mpegts": [b""],
    "ogg": [b"", b"OggS\0\2"],
}


@given(st.data())
def test_any_bytes_are_whole_or_truncated(data):
    container = data.draw(st.sampled_from(sorted(BEGINNINGS)))
    file = data.draw(st.sampled_from(BEGINNINGS[container])) + data.draw(st.binary(max_size=64))
    with contextlib.suppress(UnreadableVideoError):
        check_complete(io.BytesIO(file), container)


@pytest.mark.parametrize(
    ("name", "container"),
    [("h264_mp4", "mov,mp4,m4a,3gp,3g2,mj2"), ("h264_mkv", "matroska,webm"), ("mpeg4_avi", "avi"), ("gif", "gif")],
)
def test_a_file_without_its_last_byte_is_truncated(video_file, name, container):
    data = video_file(name).read_bytes()
    assert name in VIDEO_KINDS
    check_complete(io.BytesIO(data), container)
    with pytest.raises(UnreadableVideoError, match="truncated"):
        check_complete(io.BytesIO(data[:-1]), container)


def test_ogg_ends_at_the_page_that_says_so_wherever_it_is_cut():
    output = io.BytesIO()
    with av.open(output, "w", format="ogg") as container:
        pictures = container.add_stream("libvpx", rate=25)
        pictures.width, pictures.height, pictures.pix_fmt = 64, 48, "yuv420p"
        sound = container.add_stream("libopus", rate=48000)
        for index in range(50):
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1920), np.float32), format="flt", layout="mono")
            silence.sample_rate, silence.pts = 48000, 1920 * index
            container.mux(sound.encode(silence))
            noise = np.random.default_rng(index).integers(0, 256, (48, 64, 3), dtype=np.uint8)
            container.mux(pictures.encode(av.VideoFrame.from_ndarray(noise)))
        container.mux(pictures.encode(None))
        container.mux(sound.encode(None))
    data = output.getvalue()
    first, last = (index(b"OggS") for index in (lambda page: data.index(page, 1), data.rindex))
    for stray in (b"", b"TAG" + bytes(125)):
        check_complete(io.BytesIO(data + stray), "ogg")
    for end in range(first, last, 7):
        with pytest.raises(UnreadableVideoError, match="truncated"):
            check_complete(io.BytesIO(data[:end]), "ogg")


@pytest.mark.parametrize("stray", [b"\n", b"\r\n", b"<?xml?>", bytes(512)])
def test_a_gif_ends_at_its_trailer_whatever_strays_behind_it(video_file, stray):
    data = video_file("gif").read_bytes()
    check_complete(io.BytesIO(data + stray), "gif")
    with pytest.raises(UnreadableVideoError, match="truncated"):
        check_complete(io.BytesIO(data[:-1] + stray), "gif")


def test_a_gif_that_is_cut_behind_a_byte_like_its_trailer_is_truncated(video_file):
    data = video_file("gif").read_bytes()
    ends = [place for place in range(800, len(data)) if data[place - 1 : place] == b";" and place < len(data)]
    assert ends
    for end in ends:
        with pytest.raises(UnreadableVideoError, match="truncated"):
            check_complete(io.BytesIO(data[:end]), "gif")


def test_an_ebml_number_of_no_length_says_nothing():
    check_complete(io.BytesIO(b"\x1a\x45\xdf\xa3" + bytes(40)), "matroska,webm")
