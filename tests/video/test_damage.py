"""Damage that FFmpeg draws something in place of: an error, and none where a file is whole."""

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from froster_hf.video.damage import DAMAGE_CHECKS, DamageCheck
from froster_hf.video.decoding import VideoDecodeError, decode_frames, stream_frames
from froster_hf.video.entries import read_h264_header, read_h264_sequence
from froster_hf.video.types import UnreadableVideoError
from tests.fixtures.videos import VideoKind, read_index, render_video, with_packets


def shown(path: Path) -> list[int | None]:
    return [read_index(frame.numpy()) for frame in decode_frames(path, lambda info: range(info.num_frames))[0]]


def without(path: Path, target: Path, *missing: int) -> Path:
    """The packets of a video but for those at some places, none of which is encoded again."""
    return with_packets(
        path, target, lambda packets: [packet for place, packet in enumerate(packets) if place not in missing]
    )


def assert_is_refused(path: Path, message: str) -> None:
    with pytest.raises(VideoDecodeError, match=message):
        decode_frames(path, [0])
    with pytest.raises(VideoDecodeError, match=message):
        list(stream_frames(path))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi", ".flv", ".ts"])
def test_h264_from_which_pictures_are_missing_is_an_error(tmp_path, suffix):
    """As where a recorder lost them, or a key frame; FFmpeg draws what follows over the picture before."""
    options = {"x264-params": "keyint=24:min-keyint=24:scenecut=0:bframes=0:ref=1"}
    whole = render_video(tmp_path / f"whole{suffix}", VideoKind(suffix, "libx264", options))
    assert shown(whole) == list(range(40))
    for missing in ([9], [9, 10, 11, 12], [24], [20, 24, 25]):
        path = without(whole, tmp_path / f"cut{suffix}", *missing)
        assert_is_refused(path, f"pictures are missing before packet {missing[0]}")


@pytest.mark.parametrize(
    ("pix_fmt", "params"),
    [("yuv420p", ""), ("yuv444p", ""), ("yuv420p", ":cqm=jvt"), ("yuv444p", ":cqm=jvt"), ("yuv420p", ":interlaced=1")],
)
def test_a_picture_of_h264_to_which_others_refer_is_missed_and_one_of_the_others_is_not(tmp_path, pix_fmt, params):
    """The numbers of pictures stand behind what says how color is stored."""
    options = {"x264-params": f"keyint=40:scenecut=0:bframes=2:b-adapt=0:b-pyramid=none:slices=2{params}"}
    whole = render_video(tmp_path / "whole.ts", VideoKind(".ts", "libx264", options, pix_fmt=pix_fmt))
    assert shown(whole) == list(range(40))
    # The first picture, then one to which others refer and the two that are shown before it.
    for missing in (4, 10):
        assert_is_refused(without(whole, tmp_path / "cut.ts", missing), "pictures are missing")
        rest = without(whole, tmp_path / "cut.ts", missing + 1)
        assert shown(rest) == [index for index in range(40) if index != missing]


# Each group's first picture (I) refers to none, and does not refresh the decoder; the two behind it in the file refer
# to the group before. Numbers of pictures by their places: 0 at 0, 1 at 1, 2 at 4, 3 at 7, 4 at 10 and so on.
OPEN_GROUPS = {"x264-params": "keyint=12:min-keyint=12:scenecut=0:bframes=2:b-adapt=0:b-pyramid=none:open-gop=1"}


def test_h264_of_which_pieces_were_joined_at_pictures_that_refer_to_none_is_read(tmp_path):
    whole = render_video(tmp_path / "whole.ts", VideoKind(".ts", "libx264", OPEN_GROUPS))
    joined = without(whole, tmp_path / "joined.ts", *range(7, 22), 23, 24)
    assert shown(joined) == [*range(7), *range(24, 40)]


def test_flv_of_which_two_of_other_settings_were_joined_is_read(tmp_path):
    first, second = (
        render_video(tmp_path / f"{number}.flv", VideoKind(".flv", "libx264", {"x264-params": f"keyint={keyint}"}))
        for number, keyint in enumerate((12, 250))
    )
    joined = tmp_path / "joined.flv"
    joined.write_bytes(first.read_bytes() + second.read_bytes()[13:])
    assert shown(joined) == 2 * list(range(40))


def checked(path: Path, change: Callable[[bytes], bytes] = bytes) -> tuple[DamageCheck, list[bytes]]:
    """The check of a file whose header was changed, and all of the file's packets."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        check = DAMAGE_CHECKS[stream.codec.canonical_name](change(bytes(stream.codec_context.extradata or b"")))
        return check, [bytes(packet) for packet in container.demux(stream) if packet.size]


def test_numbers_of_h264_may_leave_some_out_where_they_say_so_and_begin_again_behind_a_picture_of_its_own(tmp_path):
    path = render_video(tmp_path / "whole.mp4", VideoKind(".mp4", "libx264", OPEN_GROUPS))

    def with_gaps(header: bytes) -> bytes:
        sequence = read_h264_header(header)[1][0]
        expected = read_h264_sequence(sequence)._replace(may_have_gaps=True)
        bits = int.from_bytes(sequence, "big")
        changed = ((bits ^ 1 << place).to_bytes(len(sequence), "big") for place in range(8 * len(sequence)))
        return header.replace(sequence, next(unit for unit in changed if read_h264_sequence(unit) == expected))

    for change, places in ((with_gaps, (0, 1, 7, 13)), (bytes, (0, 1, 4, 22, 1, 4)), (bytes, (0, 1, 22, 28, 31))):
        check, packets = checked(path, change)
        for place in places:
            check.look(packets[place], place)
    for places in ((0, 4), (0, 1, 4, 7, 1), (0, 1, 22, 25, 31)):
        check, packets = checked(path)
        *before, last = places
        for place in before:
            check.look(packets[place], place)
        with pytest.raises(UnreadableVideoError, match=f"missing before packet {last}"):
            check.look(packets[last], last)
    # What is not understood is left to the decoder; so is what follows, up to the next picture of its own.
    check, packets = checked(path)
    for packet in (
        packets[0],
        b"\0\0\0\1\x41",
        packets[5],
        packets[9],
        packets[12],
        packets[13],
        b"\0\0\0\2",
        b"\xff",
    ):
        check.look(packet, 1)


FFV1 = {"level": "3", "slicecrc": "1", "slices": "4"}


def with_changed_bytes(path: Path, target: Path, changed: dict[int, list[int]]) -> Path:
    """Change bytes of packets by their places, counted from the end of each packet."""

    def change(packets: list[av.Packet]) -> list[av.Packet]:
        for place, offsets in changed.items():
            content = bytearray(bytes(packets[place]))
            for offset in offsets:
                content[-offset] ^= 0x55
            packet = av.Packet(bytes(content))
            packet.pts, packet.dts, packet.time_base = packets[place].pts, packets[place].dts, packets[place].time_base
            packet.is_keyframe, packet.duration = packets[place].is_keyframe, packets[place].duration
            packets[place] = packet
        return packets

    return with_packets(path, target, change)


@pytest.mark.parametrize("suffix", [".mkv", ".avi"])
@pytest.mark.parametrize("group_size", ["1", "6"])
def test_slices_of_ffv1_whose_checksum_is_another_are_damage(tmp_path, suffix, group_size):
    """FFmpeg puts a part of the picture before in their places."""
    kind = VideoKind(suffix, "ffv1", FFV1 | {"g": group_size})
    whole = render_video(tmp_path / f"whole{suffix}", kind, num_frames=12)
    assert shown(whole) == list(range(12))
    # Within the last slice, its size, and within the first one.
    for offset in (40, 6, 900):
        path = with_changed_bytes(whole, tmp_path / f"damaged{suffix}", {5: [offset]})
        assert_is_refused(path, "packet 5 is damaged")
    assert_is_refused(with_changed_bytes(whole, tmp_path / f"damaged{suffix}", {0: [40]}), "packet 0 is damaged")
    all_of_them = with_changed_bytes(whole, tmp_path / f"damaged{suffix}", {place: [40] for place in range(12)})
    assert_is_refused(all_of_them, "packet 0 is damaged")


@pytest.mark.parametrize("options", [{"level": "3", "slicecrc": "0"}, {"level": "1"}, {"level": "3", "slices": "24"}])
def test_ffv1_without_checksums_and_with_many_slices_is_read(tmp_path, options):
    kind = VideoKind(".mkv", "ffv1", options, width=192, height=144)
    assert shown(render_video(tmp_path / "whole.mkv", kind, num_frames=12)) == list(range(12))


CUT = {
    "mpeg4": VideoKind(".mp4", "mpeg4", {"g": "12"}, bit_rate=400_000),
    "mpeg4 with pictures in another order": VideoKind(".mkv", "mpeg4", {"g": "12", "bf": "2"}, bit_rate=400_000),
    "h263": VideoKind(".3gp", "h263", {"g": "12"}, width=176, height=144, bit_rate=400_000),
    # All of its pictures are called key frames.
    "h263p": VideoKind(".avi", "h263p", {"g": "12"}, width=176, height=144, bit_rate=400_000),
    "msmpeg4": VideoKind(".avi", "msmpeg4", {"g": "12"}, bit_rate=400_000),
    "wmv1": VideoKind(".asf", "wmv1", {"g": "12"}, bit_rate=400_000),
    "wmv2": VideoKind(".asf", "wmv2", {"g": "12"}, bit_rate=400_000),
    # Their decoders do not tell the kinds of pictures.
    "cinepak": VideoKind(".avi", "cinepak", {"g": "12"}, pix_fmt="rgb24"),
    "msvideo1": VideoKind(".avi", "msvideo1", {"g": "12"}, pix_fmt="rgb555le"),
    "qtrle": VideoKind(".mov", "qtrle", {"g": "12"}, pix_fmt="rgb24"),
}


@pytest.mark.parametrize("name", CUT)
def test_a_video_that_begins_with_a_picture_that_refers_to_another_is_an_error(tmp_path, name):
    """FFmpeg draws on gray what is left of it, up to the next key frame."""
    kind = CUT[name]
    whole = render_video(tmp_path / f"whole{kind.suffix}", kind)
    assert shown(whole) == list(range(40))
    assert_is_refused(without(whole, tmp_path / f"cut{kind.suffix}", 0), "its first picture refers to others")


@pytest.mark.parametrize(("suffix", "codec"), [(".ts", "mpeg4"), (".flv", "flv")])
def test_what_was_joined_in_the_middle_begins_at_its_first_key_frame_whatever_its_decoder_draws(
    tmp_path, suffix, codec
):
    kind = VideoKind(suffix, codec, {"g": "12"}, bit_rate=400_000)
    whole = render_video(tmp_path / f"whole{suffix}", kind)
    assert shown(whole) == list(range(40))
    joined = without(whole, tmp_path / f"joined{suffix}", *range(5))
    assert shown(joined) == list(range(12, 40))
    assert [frame.frame_index for frame in stream_frames(joined)] == list(range(28))


def test_mpeg4_whose_first_pictures_are_outside_of_the_edit_list_is_read(tmp_path):
    whole = render_video(tmp_path / "whole.mp4", CUT["mpeg4"], num_frames=20)

    def later(packets: list[av.Packet]) -> list[av.Packet]:
        for packet in packets:
            shift = int(7 / 25 / packet.time_base)
            packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
        return packets

    path = with_packets(whole, tmp_path / "cut.mp4", later)
    assert shown(path) == list(range(7, 20))
    assert np.array_equal(decode_frames(path, [2])[0], decode_frames(whole, [9])[0])
