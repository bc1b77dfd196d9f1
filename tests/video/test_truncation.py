"""Whether a file is all there, by what its container says; whatever bytes the container holds."""

import contextlib
import io

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
