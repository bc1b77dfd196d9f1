"""Where decoding may begin, and what it may leave out: the frames by index are those of the file in order."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from froster_hf.video.decoding import VideoDecodeError, decode_frames, probe_video
from froster_hf.video.entries import ENTRIES, Entries, NotAnIndexError
from froster_hf.video.reader import StrictReader
from froster_hf.video.types import VideoLimits
from tests.fixtures.videos import VIDEO_KINDS, read_index, with_packets

H264 = {"x264-params": "keyint=10:min-keyint=10:scenecut=0:bframes=0:qp=20"}
H265 = {"x265-params": "keyint=10:min-keyint=10:scenecut=0:bframes=0:qp=20:log-level=none"}
# Picture parameter sets of the same encoders with other offsets of the colors' steps.
OTHER_264 = {"x264-params": H264["x264-params"] + ":chroma-qp-offset=8"}
OTHER_265 = {"x265-params": H265["x265-params"] + ":cbqpoffs=8:crqpoffs=8"}
NUM_FRAMES = 24


def colored(index: int) -> np.ndarray:
    tiles = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return np.roll(tiles, index, axis=1).repeat(8, axis=0).repeat(8, axis=1)


def write(
    path: Path,
    codec: str,
    options: dict[str, str],
    change: Callable[[int, bytes], bytes] = lambda index, packet: packet,
    pix_fmt: str = "yuv420p",
) -> bytes:
    """Encode colored frames, each packet changed as a container's writer may; returns the encoder's header."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width = stream.height = 64
        stream.pix_fmt = pix_fmt
        packets = []
        for index in range(NUM_FRAMES):
            packets += stream.encode(av.VideoFrame.from_ndarray(colored(index), format="rgb24"))
        packets += stream.encode(None)
        for index, packet in enumerate(packets):
            changed = av.Packet(change(index, bytes(packet)))
            changed.pts, changed.dts, changed.time_base = packet.pts, packet.dts, packet.time_base
            changed.is_keyframe, changed.stream = packet.is_keyframe, stream
            container.mux(changed)
        return bytes(stream.codec_context.extradata or b"")


def picture_set(path: Path, codec: str, options: dict[str, str]) -> bytes:
    """The picture parameter set that an encoder writes, without a start code."""
    units = write(path, codec, options).split(b"\0\0\0\1")
    return next(unit for unit in units if unit[:1] in (b"\x68", b"\x44"))


def assert_indices_are_as_in_order(path: Path) -> None:
    whole = decode_frames(path, list(range(NUM_FRAMES)))[0]
    with av.open(str(path)) as container:
        plain = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert np.array_equal(whole.permute(0, 2, 3, 1).numpy(), np.stack(plain))
    for index in (4, 9, 15, 23):
        assert np.array_equal(decode_frames(path, [index])[0][0].permute(1, 2, 0).numpy(), plain[index]), index


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("form", ["plain", "called free", "inside of another unit"])
def test_settings_that_change_between_entries_of_h264_hold_for_all_behind_them(tmp_path, suffix, form):
    unit = picture_set(tmp_path / "other.mp4", "libx264", OTHER_264)
    if form == "called free":
        unit = bytes([unit[0] & 31]) + unit[1:]
    if form == "inside of another unit":
        # A start code in a unit that stands behind its length.
        unit = b"\x09\xf0\0\0\1" + unit

    def change(index: int, packet: bytes) -> bytes:
        # The container's writer puts lengths in place of start codes, and would take the inner unit apart.
        inserted = {3: b"\0\0\0\1" + unit.replace(b"\0\0\1", b"\0\0\7")}
        return inserted.get(index, b"") + packet

    path = tmp_path / f"clip{suffix}"
    write(path, "libx264", H264, change)
    path.write_bytes(path.read_bytes().replace(b"\x09\xf0\0\0\7", b"\x09\xf0\0\0\1"))
    assert_indices_are_as_in_order(path)


def test_settings_that_change_between_entries_of_h265_hold_for_all_behind_them(tmp_path):
    unit = picture_set(tmp_path / "other.mp4", "libx265", OTHER_265)
    path = tmp_path / "clip.mp4"
    write(path, "libx265", H265, lambda index, packet: (b"\0\0\0\1" + unit if index == 3 else b"") + packet)
    assert_indices_are_as_in_order(path)


@pytest.mark.parametrize("suffix", [".mov", ".mkv"])
def test_tables_of_jpeg_hold_for_all_pictures_behind_them(tmp_path, suffix):
    def change(index: int, packet: bytes) -> bytes:
        """Other tables of quantization in the third picture, none behind it."""
        start = packet.index(b"\xff\xdb")
        end = start + 2 + int.from_bytes(packet[start + 2 : start + 4], "big")
        table = packet[start:end] if index < 2 else b""
        if index == 2:
            table = packet[start : start + 5] + bytes(min(255, 4 * step) for step in packet[start + 5 : end])
        return packet[:start] + table + packet[end:]

    path = tmp_path / f"clip{suffix}"
    write(path, "mjpeg", {"q": "5"}, change, pix_fmt="yuvj420p")
    assert_indices_are_as_in_order(path)


def test_settings_within_mpeg4_hold_for_all_behind_them(tmp_path):
    headers = []
    for options in ({"g": "10"}, {"g": "10", "mpeg_quant": "1"}):
        header = write(tmp_path / "other.mp4", "mpeg4", options)
        headers.append(header[header.index(b"\0\0\1\0") :])
    assert headers[0] != headers[1]
    path = tmp_path / "clip.mp4"
    write(path, "mpeg4", {"g": "10"}, lambda index, packet: (headers[1] if index == 3 else b"") + packet)
    assert_indices_are_as_in_order(path)


@pytest.mark.parametrize("place", [1, 2, 20, 24])
@pytest.mark.parametrize("name", ["h264_mp4", "h264_one_gop_mp4", "hevc_mp4"])
def test_pictures_that_are_shown_in_another_order_than_their_times_say_are_read_in_order(
    video_file, tmp_path, name, place
):
    """Two neighbors have each other's times, of which the decoder, which goes by their numbers, knows nothing."""

    def exchange(packets: list[av.Packet]) -> list[av.Packet]:
        times = sorted(packet.pts for packet in packets)
        exchanged = {times[place]: times[place + 1], times[place + 1]: times[place]}
        for packet, time in zip(packets, times):
            # Decoding stays in order, and ahead of all that is shown.
            packet.pts, packet.dts = exchanged.get(packet.pts, packet.pts) + times[-1], time
        return packets

    path = with_packets(video_file(name), tmp_path / "exchanged.mp4", exchange)
    whole = decode_frames(path, list(range(40)))[0]
    for index in (place, place + 1, 39):
        assert np.array_equal(decode_frames(path, [index])[0][0], whole[index]), index


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_pictures_that_are_not_shown_have_no_index(video_file, tmp_path, suffix):
    """A file that was cut at an open entry: pictures that lead it refer to what was cut off."""
    kept: list[av.Packet] = []

    def cut(packets: list[av.Packet]) -> list[av.Packet]:
        place = next(place for place, packet in enumerate(packets) if place and packet.is_keyframe)
        kept.extend(packets[place:])
        return kept

    path = with_packets(video_file("hevc_mp4"), tmp_path / f"cut{suffix}", cut)
    frames, info = decode_frames(path, lambda info: list(range(info.num_frames)))
    shown = [read_index(frame.numpy()) for frame in frames]
    assert shown == list(range(40 - len(shown), 40))
    assert len(shown) == info.num_frames < len(kept)
    assert decode_frames(path, [5])[1].num_frames == info.num_frames
    assert read_index(decode_frames(path, [5])[0][0].numpy()) == shown[5]


def assert_each_index_is_as_in_order(path: Path) -> None:
    with av.open(str(path)) as container:
        plain = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert probe_video(path).num_frames == len(plain)
    for index in range(min(NUM_FRAMES, len(plain))):
        assert np.array_equal(decode_frames(path, [index])[0][0].permute(1, 2, 0).numpy(), plain[index]), index


def test_pictures_that_an_entry_of_h265_takes_back_have_no_index(tmp_path):
    """One bit of an entry says that those before it that have not been shown yet are not to be shown."""
    options = {"x265-params": "keyint=8:min-keyint=8:bframes=3:b-adapt=0:open-gop=0:scenecut=0:log-level=none"}

    def change(index: int, packet: bytes) -> bytes:
        place = next((place for kind in b"\x26\x28" if (place := packet.find(bytes((0, 0, 1, kind)))) >= 0), -1)
        if index == 0 or place < 0:
            return packet
        return packet[: place + 5] + bytes([packet[place + 5] | 64]) + packet[place + 6 :]

    path = tmp_path / "clip.mp4"
    write(path, "libx265", options, change)
    with av.open(str(path)) as container:
        assert len(list(container.decode(video=0))) < NUM_FRAMES
    assert_each_index_is_as_in_order(path)


@pytest.mark.parametrize("header", [bytes([10 << 1]), bytes([22 << 1]), bytes([0, 0])])
def test_units_of_h265_that_are_no_pictures_have_no_index(tmp_path, header):
    """FFmpeg passes over reserved kinds, and over those without a layer in time."""
    path = tmp_path / "clip.mp4"
    write(path, "libx265", {"x265-params": H265["x265-params"].replace("bframes=0", "bframes=3:b-adapt=0")})
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        free = [packet for packet in packets if packet.pos is not None and bytes(packet)[4] == 0]
        for packet in free[::2]:
            content[packet.pos + 4 : packet.pos + 4 + len(header)] = header
    path.write_bytes(content)
    assert_each_index_is_as_in_order(path)


@pytest.mark.parametrize(("codec", "kind", "suffix"), [("hevc", 33, ".mp4"), ("h264", 7, ".mkv")])
def test_reordering_that_is_stated_too_low_makes_a_file_no_index(tmp_path, codec, kind, suffix):
    """A decoder that learns it on the way leaves a picture out wherever it begins."""
    options = {
        "x265-params": "keyint=12:min-keyint=12:bframes=6:b-pyramid=1:b-adapt=0:open-gop=0:log-level=none",
        "x264-params": "keyint=12:min-keyint=12:bframes=3:b-pyramid=normal:b-adapt=0:scenecut=0",
    }
    name = {"hevc": "libx265", "h264": "libx264"}[codec]
    path = tmp_path / f"clip{suffix}"
    write(path, name, {key: value for key, value in options.items() if key.startswith(name[3:])})
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        assert context.reorder_depth == 2
        entries = ENTRIES[codec](bytes(context.extradata or b""))
    (unit,) = entries.settings[kind]
    content = path.read_bytes()
    # The number 2 is 011 in front of others, 1 is 010: one of the bits of the set is that one.
    for bit in range(8 * 60):
        changed = bytearray(unit)
        if bit // 8 >= len(changed):
            break
        changed[bit // 8] ^= 128 >> bit % 8
        path.write_bytes(content.replace(unit, bytes(changed)))
        with contextlib.suppress(av.FFmpegError), av.open(str(path)) as container:
            context = container.streams.video[0].codec_context
            is_low = context is not None and (context.reorder_depth, context.width, context.height) == (1, 64, 64)
            if is_low and list(container.decode(video=0)):
                break
    else:
        pytest.fail("no such bit")
    assert_each_index_is_as_in_order(path)


SLICED = {
    "h264": ("libx264", {"x264-params": H264["x264-params"] + ":slices=4"}),
    "h264_interlaced": ("libx264", {"x264-params": H264["x264-params"] + ":slices=2:interlaced=1"}),
    "h265": ("libx265", {"x265-params": H265["x265-params"] + ":slices=3:ctu=16", "preset": "ultrafast"}),
}


@pytest.mark.parametrize("name", SLICED)
def test_pictures_that_lack_a_slice_are_damaged_or_the_same_by_index_and_in_order(tmp_path, name):
    """FFmpeg leaves in its place what it decoded before, which is something else where other frames are asked for."""
    path = tmp_path / "clip.mp4"
    write(path, *SLICED[name])
    with open(path, "rb") as file, StrictReader(file, limits=VideoLimits()) as reader:
        assert reader.table.entries is not None

    def without_last(index: int, packet: bytes) -> bytes:
        return packet[: packet.rindex(b"\0\0\1")] if index in (9, 13, 14, 15) else packet

    write(path, *SLICED[name], without_last)
    if name == "h265":
        assert_each_index_is_as_in_order(path)
    else:
        with pytest.raises(VideoDecodeError, match="damaged"):
            decode_frames(path, [14])


@pytest.mark.parametrize("name", ["h264", "h265"])
def test_slices_that_come_again_do_not_hide_that_another_one_is_missing(tmp_path, name):
    """Each block of an H.264 picture counts as often as it comes, so that FFmpeg takes the picture for whole."""

    def one_again(index: int, packet: bytes) -> bytes:
        *others, last_but_one, _ = packet.split(b"\0\0\1")
        return b"\0\0\1".join([*others, last_but_one, last_but_one]) if index % 10 == 4 else packet

    path = tmp_path / "clip.mp4"
    write(path, *SLICED[name], one_again)
    if name == "h265":
        with pytest.raises(VideoDecodeError, match="packet 4 is damaged"):
            decode_frames(path, [0])
    else:
        assert_each_index_is_as_in_order(path)


def test_pictures_of_prores_that_lack_a_field_are_the_same_by_index_and_in_order(tmp_path):
    path, options = tmp_path / "clip.mov", {"flags": "+ildct"}
    write(path, "prores_ks", options, pix_fmt="yuv422p10le")
    with open(path, "rb") as file, StrictReader(file, limits=VideoLimits()) as reader:
        assert reader.table.entries is not None

    def without_second(index: int, packet: bytes) -> bytes:
        first = 8 + int.from_bytes(packet[8:10], "big")
        return packet[: first + int.from_bytes(packet[first + 1 : first + 5], "big")] if index else packet

    write(path, "prores_ks", options, without_second, pix_fmt="yuv422p10le")
    assert_each_index_is_as_in_order(path)


def test_pictures_behind_one_that_is_missing_have_no_other_index_by_themselves(tmp_path):
    """As where pieces were joined at a picture that refers to none, but does not refresh the decoder."""
    whole, path = tmp_path / "whole.mp4", tmp_path / "joined.mp4"
    write(whole, "libx264", {"x264-params": "keyint=12:min-keyint=12:scenecut=0:bframes=2:b-adapt=0:open-gop=1"})
    looked_into(whole, lambda index, packet: packet)
    with_packets(whole, path, lambda packets: [*packets[:4], packets[10], *packets[13:]])
    with pytest.raises(NotAnIndexError, match="missing"):
        looked_into(path, lambda index, packet: packet)
    assert_each_index_is_as_in_order(path)


def looked_into(path: Path, change: Callable[[int, bytes], bytes]) -> Entries:
    """What is known of a file's packets once all have been looked into, each changed before."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        entries = ENTRIES[stream.codec.canonical_name](bytes(stream.codec_context.extradata or b""))
        for index, packet in enumerate(packet for packet in container.demux(stream) if packet.size):
            entries.is_entry(change(index, bytes(packet)), has_header=False)
            entries.picture_number()
    return entries


def in_front(place: int, unit: bytes) -> Callable[[int, bytes], bytes]:
    return lambda index, packet: len(unit).to_bytes(4, "big") + unit + packet if index == place else packet


@pytest.mark.parametrize(
    ("name", "place", "unit"),
    [
        # An old version of an encoder, whose faults FFmpeg decodes as they were encoded.
        ("h264_mp4", 3, b"\x06\x05\x20" + bytes(16) + b"x264 - core 100\0\x80"),
        # Grain (19), and that of AV1 in a registered message (4).
        ("h264_mp4", 0, b"\x06\x13\x02\x01\x01\x80"),
        ("hevc_mp4", 3, b"\x4e\x01\x13\x02\x01\x01\x80"),
        ("hevc_mp4", 3, b"\x4e\x01\x01\x01\x01\x04\x04\xb5\x58\x90\x01\x80"),
        # Ends of a sequence and of a stream.
        ("hevc_mp4", 3, b"\x48\x01\x80"),
        ("hevc_mp4", 3, b"\x4a\x01\x80"),
        # Units that FFmpeg passes over, or that have another one in them.
        ("h264_mp4", 3, b"\xe5\x88\x84\0\x33"),
        ("h264_mp4", 3, b"\x09\xf0\0\0\1\x68\xeb"),
        # A message that is cut off.
        ("h264_mp4", 3, b"\x06" + b"\xff" * 9),
        ("h264_mp4", 3, b"\x06"),
    ],
)
def test_what_holds_for_later_packets_or_is_not_understood_makes_a_file_no_index(video_file, name, place, unit):
    path = video_file(name)
    looked_into(path, lambda index, packet: packet)
    with pytest.raises(NotAnIndexError):
        looked_into(path, in_front(place, unit))
    # A mark of a picture's beginning, which holds for nothing else.
    looked_into(path, in_front(place, b"\x09\xf0" if name == "h264_mp4" else b"\x46\x01\x50"))


def test_settings_of_the_header_may_come_again_and_those_beside_a_packet_may_not(video_file):
    for name in ("h264_mp4", "hevc_mp4"):
        entries = looked_into(video_file(name), lambda index, packet: packet)
        for found in (found for kind, found in entries.settings.items() if kind != 6):
            again = b"".join(len(unit).to_bytes(4, "big") + unit for unit in found)
            looked_into(video_file(name), lambda index, packet, again=again: again + packet)
        assert not entries.is_entry(b"", has_header=False)
        with pytest.raises(NotAnIndexError):
            entries.is_entry(b"", has_header=True)
        # As where the first packet has the second entry of an MP4 file's table.
        with av.open(str(video_file(name))) as container:
            header = bytes(container.streams.video[0].codec_context.extradata or b"")
            other = ENTRIES[container.streams.video[0].codec.canonical_name](header)
            with pytest.raises(NotAnIndexError):
                other.is_entry(bytes(next(container.demux(video=0))), has_header=True)


def test_entries_of_vp9_and_av1_are_their_key_frames_and_nothing_else_that_stands_for_itself():
    vp9 = ENTRIES["vp9"](b"")
    heads = {b"\x82\x49\x83\x42": True, b"\x86\0": False, b"\x8a\0": False, b"\xb1\0": True, b"\xb3\0": False}
    for head, is_entry in heads.items():
        assert vp9.is_entry(head, has_header=False) == is_entry, head
    av1 = ENTRIES["av1"](b"")
    sequence, shown, hidden = b"\x0a\x02\0\0", b"\x32\x01\x10", b"\x32\x01\0"
    intra, again = b"\x32\x01\x50", b"\x1a\x01\x80"
    assert av1.is_entry(sequence + shown, has_header=False)
    for content in (shown, sequence + hidden + shown, sequence + intra, sequence + again, hidden + sequence + shown):
        assert not av1.is_entry(content, has_header=False), content


def test_packets_of_vp9_and_av1_that_show_none_or_several_make_a_file_no_index():
    vp9, av1 = ENTRIES["vp9"](b""), ENTRIES["av1"](b"")
    key, hidden, shown = b"\x82\x49", b"\x84\0", b"\x86\0"

    def together(*frames: bytes) -> bytes:
        mark = bytes([0xC0 | len(frames) - 1])
        return b"".join(frames) + mark + bytes(map(len, frames)) + mark

    assert vp9.is_entry(together(key, hidden), has_header=False)
    assert not vp9.is_entry(together(hidden, shown), has_header=False)
    for content in (hidden, together(key, shown), together(hidden, hidden), together(key, b"")):
        with pytest.raises(NotAnIndexError):
            vp9.is_entry(content, has_header=False)
    sequence, shown, hidden = b"\x0a\x02\0\0", b"\x32\x01\x10", b"\x32\x01\0"
    head, tiles, of_a_layer = b"\x1a\x01\x10", b"\x22\x01\0", b"\x36\x20\x01\x10"
    assert av1.is_entry(sequence + head + tiles, has_header=False)
    assert av1.is_entry(sequence + head + tiles + tiles, has_header=False)
    for content in (b"", sequence, sequence + hidden, sequence + shown + shown, sequence + shown + b"\x1a\x01\x80"):
        with pytest.raises(NotAnIndexError):
            av1.is_entry(content, has_header=False)
    for content in (
        sequence + shown + b"\x3a\x01\x80",
        head,
        b"\x1a\x01\0" + shown + tiles,
        sequence + of_a_layer,
        head + b"\x26\x20\x01\0",
    ):
        with pytest.raises(NotAnIndexError):
            av1.is_entry(content, has_header=False)


def test_a_packet_that_is_taken_for_a_header_makes_a_file_no_index():
    """FFmpeg shows nothing of it: a unit of two bytes' length looks as a header of this codec begins."""
    entries = ENTRIES["h264"](bytes([1, 100, 0, 10, 0xFD, 0xE0, 0]))
    unit = bytes([0, 0, 0xFD]).ljust(0x105, b"\x80")
    for packet in (b"\1\5" + unit, b"\1\5" + unit + b"\0\2\x65\x88"):
        with pytest.raises(NotAnIndexError, match="taken for a header"):
            entries.is_entry(packet, has_header=False)


def test_what_is_left_out_must_leave_no_gap_in_the_numbers_of_h264(video_file):
    path = video_file("h264_one_gop_mp4")
    entries = looked_into(path, lambda index, packet: packet)
    skip, keep = entries.skipping(), entries.skipping()
    left_out = [skip(place, False) for place in range(40)]
    assert 10 < sum(left_out) < 39
    assert not any(keep(place, True) for place in range(40))
    # A picture to which others refer is missing behind one that was left out: FFmpeg would draw another one.
    missing = next(place for place in range(20, 40) if left_out[place - 1] and not left_out[place])
    skip = entries.skipping()
    with pytest.raises(NotAnIndexError):
        [skip(place, False) for place in range(40) if place != missing]


INDEXED = {
    name
    for name, kind in VIDEO_KINDS.items()
    if kind.suffix in (".mp4", ".mov", ".mkv", ".webm") and kind.codec not in ("libvpx", "qtrle", "mpeg4")
}


@pytest.mark.parametrize("name", VIDEO_KINDS)
def test_what_encoders_write_is_entered_in_the_middle(video_file, name):
    with open(video_file(name), "rb") as file, StrictReader(file, limits=VideoLimits()) as reader:
        assert (reader.table.entries is not None) == (name in INDEXED)
        num_keys = {"h264_open_gop_mp4": 1, "h264_intra_refresh_mp4": 1, "h264_one_gop_mp4": 1, "vp9_altref_webm": 1}
        if name in INDEXED:
            assert len(reader.table.key_times) == num_keys.get(name, 4)
            reader.read([39])
            assert reader._is_indexed
