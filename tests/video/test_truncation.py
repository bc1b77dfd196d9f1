"""Whether a file is all there, by what its container says; whatever bytes the container holds."""

import contextlib
import io
import itertools
import re
import struct
from dataclasses import replace

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from froster_hf.video.boxes import auxiliary_tracks
from froster_hf.video.decoding import VideoDecodeError, decode_frames, probe_video
from froster_hf.video.truncation import check_complete, check_settings
from froster_hf.video.types import UnreadableVideoError
from tests.fixtures.matroska import element, write_matroska
from tests.fixtures.videos import VIDEO_KINDS, read_index, render_video

BEGINNINGS = {
    "mov,mp4,m4a,3gp,3g2,mj2": [b"", b"\0\0\0\x08ftyp", b"\0\0\0\x01mdat", b"\0\0\0\0moov\0\0\0\0trak"],
    "matroska,webm": [
        b"",
        b"\x1a\x45\xdf\xa3",
        b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67",
        b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\xff\x1f\x43\xb6\x75\xff",
    ],
    "avi": [b"", b"RIFF", b"RIFF\4\0\0\0AVI RIFF\1\0\0\0AVIX"],
    "asf": [b"", bytes(16), bytes(16) + struct.pack("<Q", 54)],
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
        check_settings(io.BytesIO(file), container)
    auxiliary_tracks(io.BytesIO(file))


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


@pytest.mark.parametrize("first_frame", [0, 100], ids=["again from the beginning", "late, and back"])
def test_fragments_whose_times_do_not_follow_each_other_are_refused(video_file, first_frame):
    """FFmpeg yields one frame for each time, and passes over those that come back."""
    data = bytearray(video_file("h264_fragmented_mp4").read_bytes())
    assert decode_frames(bytes(data), [39])[1].num_frames == 40
    begins = [match.start() for match in re.finditer(b"tfdt", data)]
    assert len(begins) == 4
    before, second = (int.from_bytes(data[place + 8 : place + 16], "big") for place in begins[:2])
    ticks = (second - before) // 12
    data[begins[1] + 8 : begins[1] + 16] = (first_frame * ticks).to_bytes(8, "big")
    with pytest.raises(VideoDecodeError, match=r"overlap or are out of order, .*: of 40 frames"):
        decode_frames(bytes(data), [0])


def _write_frames(file, stream, number: int) -> None:
    stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
    for index in range(number):
        frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 20 * index, np.uint8))
        frame.pts = index
        file.mux(stream.encode(frame))
    file.mux(stream.encode(None))


def _encoded(container: str, quality: int, codec: str = "libx264", flags: str = "") -> bytes:
    output, options = io.BytesIO(), {"movflags": flags} if flags else {}
    with av.open(output, "w", format=container, container_options=options) as file:
        settings = {"profile": "baseline", "crf": str(quality)} if codec == "libx264" else {}
        stream = file.add_stream(codec, rate=25, options=settings)
        _write_frames(file, stream, 5)
    return output.getvalue()


def test_matroska_files_that_were_joined_have_one_kind_of_settings(video_file):
    """FFmpeg keeps those of the first one, so that what follows is noise."""
    first, other = _encoded("matroska", 18), _encoded("matroska", 28)
    for same in (first + first, first + _with_open_size(first, "18538067"), first + b"\xec\x84abcd" + first):
        assert decode_frames(same, [0])[1].num_frames == 10
    vp8 = [_encoded("webm", 0, codec="libvpx"), write_matroska(video_file("vp9_webm"))]
    check_settings(io.BytesIO(vp8[0] + vp8[0]), "matroska,webm")
    with pytest.raises(UnreadableVideoError, match="different settings"):
        check_settings(io.BytesIO(b"".join(vp8)), "matroska,webm")
    open_ones = [_with_open_size(one, "18538067") for one in (first, other)]
    for joined in (first + other, first + first + other, first + open_ones[1], b"".join(open_ones)):
        with pytest.raises(
            VideoDecodeError, match="joined from files whose video was encoded with different settings"
        ):
            decode_frames(joined, [0])


def test_fragments_that_were_joined_have_one_kind_of_settings():
    first, other = (_encoded("mp4", quality, flags="frag_keyframe+empty_moov") for quality in (18, 28))
    later = []
    for part in (first, other):
        place = part.index(b"tfdt") + 8
        later.append(part[:place] + (5 * 512).to_bytes(8, "big") + part[place + 8 :])
    assert decode_frames(first + later[0], [9])[1].num_frames == 10
    with pytest.raises(VideoDecodeError, match="joined from files whose video was encoded with different settings"):
        decode_frames(first + later[1], [0])
    # Without fragments, all players read the first one, and its settings are its own.
    assert decode_frames(_encoded("mp4", 18) + _encoded("mp4", 28), [4])[1].num_frames == 5


def _entry(mp4: bytes) -> bytes:
    place = mp4.index(b"stsd") + 12
    return mp4[place : place + int.from_bytes(mp4[place : place + 4], "big")]


def _with_entry(mp4: bytes, entry: bytes) -> bytes:
    """Described by a further one, as `MP4Box` writes files that it joins, of which no picture is here."""
    place = mp4.index(b"stsd") + 4
    end = place + 8 + len(_entry(mp4))
    parts = [mp4[:place], bytes(7), b"\2", mp4[place + 8 : end], entry, mp4[end:]]
    described = bytearray(b"".join(parts))
    for kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd"):
        place = mp4.index(kind) - 4
        struct.pack_into(">I", described, place, len(entry) + int.from_bytes(mp4[place : place + 4], "big"))
    return bytes(described)


def test_a_track_is_described_by_several_entries_only_where_its_decoder_takes_them():
    """MPEG-4's keeps the first one's settings, and of fragments it is not said which one they are of."""
    kinds = [
        _encoded("mp4", 18),
        _encoded("mp4", 18, codec="mpeg4"),
        _encoded("mp4", 18, flags="frag_keyframe+empty_moov+default_base_moof"),
    ]
    for mp4 in kinds:
        same = _with_entry(mp4, _entry(mp4))
        assert all(map(np.array_equal, decode_frames(same, [0, 4])[0], decode_frames(mp4, [0, 4])[0]))
    mpeg4 = _with_entry(kinds[1], _entry(kinds[1]).replace(b"\x05\x80\x80\x80", b"\x05\x80\x80\x81"))
    h264 = _with_entry(kinds[0], _entry(_encoded("mp4", 28)))
    assert np.array_equal(decode_frames(h264, [4])[0], decode_frames(kinds[0], [4])[0])
    for described in (
        mpeg4,
        _with_entry(kinds[2], _entry(_encoded("mp4", 28))),
        _with_entry(kinds[0], _entry(kinds[1])),
    ):
        with pytest.raises(VideoDecodeError, match="encoded with different settings"):
            decode_frames(described, [0])


def _with_parts(entry: bytes, *parts: bytes) -> bytes:
    """An entry with these in the place of what it states of its pixels."""
    settings = entry.index(b"avcC") - 4
    kept = entry[8 : settings + int.from_bytes(entry[settings : settings + 4], "big")]
    boxes = b"".join(struct.pack(">I", 4 + len(part)) + part for part in parts)
    return struct.pack(">I4s", 8 + len(kept) + len(boxes), entry[4:8]) + kept + boxes


def _pasp(width: int, height: int) -> bytes:
    return b"pasp" + struct.pack(">II", width, height)


def _colr(matrix: int, *, is_full: bool = False) -> bytes:
    return b"colr" + struct.pack(">4sHHHB", b"nclx", 2, 2, matrix, 128 * is_full)


@pytest.mark.parametrize(
    ("first", "other", "what"),
    [
        ((_pasp(2, 1),), (_pasp(1, 1),), "shape of its pixels"),
        ((), (_pasp(2, 1),), "shape of its pixels"),
        ((_pasp(16, 15),), (_pasp(64, 45),), "shape of its pixels"),
        ((_colr(6),), (_colr(1),), "matrix or range of its colors"),
        ((_colr(1),), (_colr(1, is_full=True),), "matrix or range of its colors"),
        ((_pasp(16, 15),), (_pasp(12, 11),), None),
        ((), (_pasp(1, 1),), None),
        ((_pasp(0, 0),), (_pasp(1, 1),), None),
        ((_colr(5),), (_colr(6),), None),
        ((), (_colr(1),), None),
        ((b"colrnclc" + bytes(5) + b"\1",), (_colr(1),), None),
    ],
)
def test_entries_of_a_track_that_state_other_pixels_are_refused(first, other, what):
    mp4 = _encoded("mp4", 18)
    entry = _entry(mp4)
    place = mp4.index(entry)
    shift = len(_with_parts(entry, *first)) - len(entry)
    stated = bytearray(mp4[:place] + _with_parts(entry, *first) + mp4[place + len(entry) :])
    for kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd"):
        size = mp4.index(kind) - 4
        struct.pack_into(">I", stated, size, shift + int.from_bytes(mp4[size : size + 4], "big"))
    described = _with_entry(bytes(stated), _with_parts(entry, *other))
    if what is None:
        assert len(decode_frames(described, [0, 4])[0]) == 2
        return
    with pytest.raises(VideoDecodeError, match=f"the {what} changes, as its parts state it"):
        decode_frames(described, [0])


def test_frames_in_front_of_fragments_are_not_lost_to_an_edit_list_without_length():
    """It is as long as all of them, but FFmpeg takes it to hide what is in front."""
    output, options = io.BytesIO(), {"movflags": "frag_keyframe", "avoid_negative_ts": "make_non_negative"}
    with av.open(output, "w", format="mp4", container_options=options) as file:
        stream = file.add_stream("libx264", rate=25, options={"g": "5", "bf": "0"})
        _write_frames(file, stream, 10)
    with pytest.raises(VideoDecodeError, match="or an edit list hides what is in front of them"):
        decode_frames(output.getvalue(), [0])


def test_flv_whose_codec_changes_is_refused_and_does_not_lose_a_part():
    first, other = _encoded("flv", 18), _encoded("flv", 0, codec="flv")
    assert decode_frames(first, [4])[1].num_frames == 5
    header = 13  # of a file, in front of its first tag
    for joined in (first + other[header:], other + first[header:]):
        with pytest.raises(VideoDecodeError, match="its video changes its codec"):
            decode_frames(joined, [0])


def test_encrypted_pictures_are_refused_and_not_read_as_noise(tmp_path):
    key = {"encryption_key": "00112233445566778899aabbccddeeff", "encryption_kid": "0" * 32}
    for scheme in ("none", "cenc-aes-ctr"):
        with av.open(str(tmp_path / "a.mov"), "w", options={"encryption_scheme": scheme, **key}) as container:
            stream = container.add_stream("rawvideo", rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "rgb24"
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 90, np.uint8))
            container.mux([*stream.encode(frame), *stream.encode(None)])
        if scheme == "none":
            assert (decode_frames(tmp_path / "a.mov", [0])[0] == 90).all()
    with pytest.raises(VideoDecodeError, match="its pictures are encrypted"):
        decode_frames(tmp_path / "a.mov", [0])


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


def test_a_gif_whose_pictures_do_not_all_come_out_is_refused():
    """FFmpeg tells pictures apart by the blocks before them, and passes over those that have none."""
    screen, control = b"GIF89a" + struct.pack("<2H3B", 2, 2, 0x80, 0, 0) + bytes(3) + b"\xff" * 3, b"!\xf9\4\0\n\0\0\0"
    picture = b"," + struct.pack("<4HB", 0, 0, 2, 2, 0) + b"\2\3\4\2\5\0"
    assert probe_video(screen + 3 * (control + picture) + b";").num_frames == 3
    assert probe_video(screen + picture + b";").num_frames == 1
    with pytest.raises(VideoDecodeError, match="of its 3 pictures, 1 come out"):
        probe_video(screen + 3 * picture + b";")


def test_an_ebml_number_of_no_length_says_nothing():
    check_complete(io.BytesIO(b"\x1a\x45\xdf\xa3" + bytes(40)), "matroska,webm")


def _num_frames(file: bytes) -> int:
    """How many frames a file is read as, all of which are those that it has there."""
    frames, info = decode_frames(file, lambda info: range(info.num_frames))
    assert list(map(read_index, frames)) == list(range(info.num_frames))
    return info.num_frames


def _places(file: bytes) -> list[int]:
    """Where the pictures of a file begin, and where the last one ends."""
    with av.open(io.BytesIO(file)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    return [*(place for place, _ in packets), sum(packets[-1])]


def _with_open_frames(mp4: bytes) -> bytes:
    """An MP4 file whose last box of pictures has no size, so that it ends with the file."""
    place = mp4.rindex(b"mdat") - 4
    (length,) = struct.unpack_from(">I", mp4, place)
    return mp4[:place] + bytes(4) + mp4[place + 4 : place + length]


@pytest.mark.parametrize(
    "flags", ["faststart", "frag_keyframe+empty_moov", "frag_keyframe+empty_moov+default_base_moof"]
)
@pytest.mark.parametrize("audio", [False, True])
def test_frames_that_mp4_has_behind_the_end_of_the_file_are_missed_whatever_its_boxes_say(tmp_path, flags, audio):
    # Pictures before the first key frame that is shown make an edit list.
    kind = replace(VIDEO_KINDS["h264_mp4"], container_options={"movflags": flags}, audio=audio)
    data = _with_open_frames(render_video(tmp_path / "video.mp4", kind).read_bytes())
    places = _places(data)
    assert _num_frames(data[: places[-1]]) == _num_frames(data + b"stray") == 40
    last = data.rindex(b"mdat") + 4
    ends = [place for place in places if place > last]
    assert len(ends) > 3
    for end in (last, *ends[:-1], places[-1] - 1):
        with pytest.raises(VideoDecodeError, match=r"truncated|damaged|without frames"):
            decode_frames(data[:end], [0])


@pytest.mark.parametrize("flags", ["global_sidx", "dash", "dash+global_sidx"])
@pytest.mark.parametrize("audio", [False, True])
def test_mp4_ends_behind_the_last_fragment_that_its_index_lists(tmp_path, flags, audio):
    movflags = f"{flags}+frag_keyframe+empty_moov+default_base_moof"
    kind = replace(VIDEO_KINDS["h264_mp4"], container_options={"movflags": movflags}, audio=audio)
    data = render_video(tmp_path / "video.mp4", kind).read_bytes()
    assert _num_frames(data) == _num_frames(data + b"stray") == 40
    fragments = [place - 4 for place in range(len(data)) if data.startswith(b"moof", place)]
    # An index of each fragment's own says nothing of the next one.
    indexes = [place for place in range(fragments[0]) if data.startswith(b"sidx", place)]
    assert len(fragments) > 2
    assert indexes
    if "global" in flags:
        for end in [place + more for place in fragments[1:] for more in (0, 7)]:
            with pytest.raises(VideoDecodeError, match="truncated"):
                decode_frames(data[:end], [0])


def test_of_matroska_files_that_were_joined_each_one_says_where_it_ends(video_file):
    data = video_file("h264_mkv").read_bytes()
    void = b"\xec\x84abcd"
    for joined in (data + data, data + void + data, data + data + b"stray"):
        check_complete(io.BytesIO(joined), "matroska,webm")
    for end in (1, len(data) // 3, len(data) - 10):
        for joined in (data + data[:-end], data + void + data[:-end], data + data + data[:-end]):
            with pytest.raises(UnreadableVideoError, match="truncated"):
                check_complete(io.BytesIO(joined), "matroska,webm")


def _with_open_size(matroska: bytes, identifier: str) -> bytes:
    """A file whose last element of a kind does not say where it ends, as written to a pipe."""
    place = matroska.rindex(bytes.fromhex(identifier)) + 4
    return matroska[:place] + b"\1" + b"\xff" * 7 + matroska[place + 8 :]


def test_matroska_of_open_size_that_is_cut_within_what_has_a_size_is_truncated(video_file):
    live = _with_open_size(write_matroska(video_file("vp9_webm")), "18538067")
    recorded = _with_open_size(live, "1F43B675")
    start = b"\xa3\1" + bytes(4)
    blocks = [place for place in range(len(live) // 2, len(live)) if live.startswith(start, place)]
    assert len(blocks) > 5
    tags = element("1254C367", bytes(20))
    for whole in (live, recorded, live + bytes(9), recorded + b"stray", live + tags, recorded + tags, live + recorded):
        check_complete(io.BytesIO(whole), "matroska,webm")
    assert _num_frames(live) == _num_frames(recorded) == 40
    cuts = [live[:-1], recorded[:-1], (live + tags)[:-1], live + recorded[:-1]]
    for block in blocks:
        cuts += [live[:block], recorded[: block + 2], recorded[: block + 14], recorded[: block - 1]]
        check_complete(io.BytesIO(recorded[:block]), "matroska,webm")
    for cut in cuts:
        with pytest.raises(UnreadableVideoError, match="truncated"):
            check_complete(io.BytesIO(cut), "matroska,webm")


def test_asf_says_where_its_packets_end_unless_it_is_live(video_file):
    data = video_file("wmv_asf").read_bytes()
    (start,) = struct.unpack_from("<Q", data, 16)
    end = start + struct.unpack_from("<Q", data, start + 16)[0]
    packets = range(start + 50, end, 3200)
    assert len(packets) > 3
    for whole in (data, data[:end], data + b"stray"):
        assert _num_frames(whole) == 40
    for cut in (end - 1, *packets[1:]):
        with pytest.raises(VideoDecodeError, match="truncated"):
            decode_frames(data[:cut], [0])
    flags = data.index(bytes.fromhex("a1dcab8c47a9cf11")) + 88
    live = data[:flags] + b"\1" + data[flags + 1 :]
    assert 0 < _num_frames(live[: packets[2]]) < 40
    open_end = data[: start + 16] + struct.pack("<Q", 50) + data[start + 24 :]
    assert 0 < _num_frames(open_end[: packets[2]]) < 40


def _in_riff_chunks(avi: bytes, frames_each: int) -> tuple[bytes, list[int]]:
    """An AVI file as writers go on at a gigabyte (OpenDML), and where its RIFF chunks end.

    Each has a part of the index behind its frames, to which the header of the stream leads.
    """
    start = avi.index(b"movi")
    frames, place = [], start + 4
    while place < start + struct.unpack_from("<I", avi, start - 4)[0]:
        length = struct.unpack_from("<I", avi, place + 4)[0]
        frames.append(avi[place : place + 8 + length + length % 2])
        place += len(frames[-1])
    file, parts, ends = bytearray(), [], []
    for first in range(0, len(frames), frames_each):
        chunks = frames[first : first + frames_each]
        head = b"" if file else avi[12 : start - 8]
        base = len(file) + 12 + len(head) + 8
        offsets = itertools.accumulate(map(len, chunks), initial=12)
        entries = b"".join(struct.pack("<I", offset) + chunk[4:8] for offset, chunk in zip(offsets, chunks))
        part = (
            struct.pack("<4sIHBBI4sQI", b"ix00", 24 + len(entries), 2, 0, 1, len(chunks), b"00dc", base, 0) + entries
        )
        content = b"movi" + b"".join(chunks) + part
        body = head + struct.pack("<4sI", b"LIST", len(content)) + content
        file += struct.pack("<4sI4s", b"RIFF", 4 + len(body), b"AVIX" if file else b"AVI ") + body
        parts.append((len(file) - len(part), len(part), len(chunks)))
        ends.append(len(file))
    # FFmpeg leaves room for the names of the parts.
    room = file.index(b"JUNK")
    file[room : room + 4] = b"indx"
    struct.pack_into("<I", file, room + 12, len(parts))
    for number, part in enumerate(parts):
        struct.pack_into("<QII", file, room + 32 + 16 * number, *part)
    return bytes(file), ends


def test_an_avi_of_several_riff_chunks_is_whole_with_all_of_them(video_file):
    data, ends = _in_riff_chunks(video_file("mpeg4_no_b_avi").read_bytes(), 15)
    assert len(ends) == 3
    assert _num_frames(data) == _num_frames(data + b"stray") == 40
    for end in range(ends[0], len(data), 211):
        with pytest.raises(VideoDecodeError, match=r"truncated|not a readable video"):
            decode_frames(data[:end], [0])
    without_index = data.replace(b"indx", b"JUNK", 1)
    assert _num_frames(without_index) == 40
    for end in (ends[1] - 1, ends[1] + 500, ends[2] - 1):
        with pytest.raises(VideoDecodeError, match="truncated"):
            decode_frames(without_index[:end], [0])
