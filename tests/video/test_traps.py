"""What lies inside sound-looking files: other files, other segments, compressed frames, pictures that move."""

import io
import os
import socket
import struct
import zlib

import av
import numpy as np
import pytest
from PIL import Image, features

from froster_hf.video.decoding import VideoDecodeError, decode_frames, probe_video, stream_frames
from tests.fixtures.matroska import as_they_are, element, header_stripped, number, write_matroska, zlib_compressed
from tests.fixtures.videos import VIDEO_KINDS, VideoKind, draw_frame, read_index, render_video

NUM_FRAMES = 40


def assert_reads_its_own_frames(source) -> None:
    frames, info = decode_frames(source, [0, 17, 39])
    assert [read_index(frame.numpy()) for frame in frames] == [0, 17, 39]
    assert info.num_frames == NUM_FRAMES
    assert [read_index(frame.frame.numpy()) for frame in stream_frames(source)] == list(range(NUM_FRAMES))


@pytest.mark.parametrize("name", ["none", "zlib", "stripped"])
@pytest.mark.parametrize(("kind", "codec_id"), [("vp9_webm", "V_VP9"), ("h264_mkv", "V_MPEG4/ISO/AVC")])
def test_compressed_tracks_of_matroska_are_read_exactly(video_file, kind, codec_id, name):
    path = video_file(kind)
    # What all frames begin with: two bits of VP9's marker leave no whole byte, the length of a small H.264 unit two.
    header = b"" if kind == "vp9_webm" else b"\0\0"
    encoding = {"none": as_they_are(), "zlib": zlib_compressed(), "stripped": header_stripped(header)}[name]
    assert_reads_its_own_frames(write_matroska(path, codec_id=codec_id, encoding=encoding))


def test_compressed_frames_that_burst_are_refused(video_file):
    settings, _ = zlib_compressed()
    bomb = zlib.compress(bytes(2**30), 9)
    data = write_matroska(video_file("vp9_webm"), encoding=(settings, lambda frame: bomb))
    with pytest.raises(VideoDecodeError):
        decode_frames(data, [0])
    damaged = write_matroska(video_file("vp9_webm"), encoding=(settings, lambda frame: frame))
    with pytest.raises(VideoDecodeError):
        decode_frames(damaged, [0])


def test_linked_segments_are_not_followed(video_file, tmp_path):
    """The file names a next one, by name and by number, in its header and in ordered chapters; it is there."""
    other = b"\x11" * 16
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        url = f"http://127.0.0.1:{server.getsockname()[1]}/next.mkv".encode()
        for name in (b"next.mkv", b"file:next.mkv", url):
            info = [element("73A4", b"\x22" * 16), element("3EB923", other), element("3E83BB", name)]
            atom = element("B6", number("73C4", 1), number("91", 0), element("6E67", other), number("98", 0))
            chapters = element("1043A770", element("45B9", number("45DD", 1), atom))
            path = tmp_path / "first.mkv"
            path.write_bytes(write_matroska(video_file("vp9_webm"), info=info, more=[chapters]))
            linked = write_matroska(video_file("vp9_webm"), info=[element("73A4", other)])
            (tmp_path / "next.mkv").write_bytes(linked)
            assert_reads_its_own_frames(path)
            (tmp_path / "next.mkv").write_bytes(b"not a video")
            assert_reads_its_own_frames(path)
        with pytest.raises(TimeoutError):
            server.accept()


@pytest.mark.parametrize(("kind", "codec_id"), [("vp9_webm", "V_VP9"), ("h264_mkv", "V_MPEG4/ISO/AVC")])
def test_a_seek_table_that_leads_to_other_frames_of_the_same_times_leads_nowhere(video_file, kind, codec_id):
    """An unused element holds a cluster with the frames of a group further on, and a table leads there."""
    path = video_file(kind)
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    blocks = [
        element("A3", b"\x81" + packet.pts.to_bytes(2, "big") + bytes([0x80 * packet.is_keyframe]), bytes(other))
        for packet, other in zip(packets, packets[12:])
    ]
    hidden = element("1F43B675", number("E7", 0), *blocks)

    def written(cluster: int, table: int) -> bytes:
        places = element("B7", number("F7", 1), number("F1", cluster))
        points = [element("BB", number("B3", packet.pts), places) for packet in packets if packet.is_keyframe]
        unused = element("EC", hidden, element("1C53BB6B", *points))
        to_table = element("114D9B74", element("4DBB", element("53AB", b"\x1c\x53\xbb\x6b"), number("53AC", table)))
        return write_matroska(path, codec_id=codec_id, more=[to_table, unused])

    first = written(0, 0)
    start = first.index(b"\x18\x53\x80\x67") + 12
    cluster = first.index(hidden) - start
    data = written(cluster, cluster + len(hidden))
    with av.open(io.BytesIO(data)) as container:
        container.seek(packets[12].pts, stream=container.streams.video[0])
        assert bytes(next(container.demux(video=0))) == bytes(packets[24])
    assert_reads_its_own_frames(data)


@pytest.mark.parametrize(
    ("name", "kind", "content"),
    [
        ("list.m3u8", "application/vnd.apple.mpegurl", b"#EXTM3U\n#EXTINF:1,\n{url}\n#EXT-X-ENDLIST\n"),
        ("cover.png", "image/png", b"\x89PNG\r\n\x1a\n" + bytes(100)),
        ("font.ttf", "application/x-truetype-font", bytes(1000)),
        ("../../escape.txt", "text/plain", b"escaped"),
    ],
)
def test_attachments_are_neither_opened_nor_written(video_file, tmp_path, monkeypatch, name, kind, content):
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        content = content.replace(b"{url}", f"http://127.0.0.1:{server.getsockname()[1]}/clip.ts".encode())
        file = element(
            "61A7",
            element("466E", name.encode()),
            element("4660", kind.encode()),
            element("465C", content),
            number("46AE", 7),
        )
        path = tmp_path / "clip.mkv"
        path.write_bytes(write_matroska(video_file("vp9_webm"), more=[element("1941A469", file)]))
        before = sorted(tmp_path.rglob("*")) + sorted(tmp_path.parent.glob("*"))
        assert_reads_its_own_frames(path)
        assert sorted(tmp_path.rglob("*")) + sorted(tmp_path.parent.glob("*")) == before
        with pytest.raises(TimeoutError):
            server.accept()


def test_a_stream_that_begins_unannounced_is_refused_in_words(tmp_path):
    """Sound that appears near the end of an FLV file, whose header says that there is none."""
    data = render_video(tmp_path / "clip.flv", VIDEO_KINDS["h264_flv"], num_frames=200).read_bytes()
    place = 13
    for _ in range(195):
        place += 11 + int.from_bytes(data[place + 1 : place + 4], "big") + 4
    # Type, size, the time of the next tag, stream, three bytes of sound, size of the tag.
    sound = b"\x08\0\0\x03" + data[place + 4 : place + 8] + b"\0\0\0" + b"\x2f\xff\xfb" + b"\0\0\0\x0e"
    with pytest.raises(VideoDecodeError, match="a stream begins in the middle of the file"):
        decode_frames(data[:place] + sound + data[place:], [0])


def animation(path, num_frames=12, **options):
    pictures = [Image.fromarray(draw_frame(index)) for index in range(num_frames)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=40, **options)
    return path


@pytest.mark.skipif(not features.check("avif"), reason="Pillow was built without AVIF")
def test_an_animated_avif_is_read_exactly(tmp_path):
    path = animation(tmp_path / "clip.avif", quality=90)
    frames, info = decode_frames(path, [11, 0, 7])
    assert [read_index(frame.numpy()) for frame in frames] == [11, 0, 7]
    assert (info.num_frames, info.duration_seconds) == (12, pytest.approx(0.48))
    assert [read_index(frame.frame.numpy()) for frame in stream_frames(path)] == list(range(12))
    for length in (1, len(path.read_bytes()) // 2):
        with pytest.raises(VideoDecodeError, match="truncated"):
            probe_video(path.read_bytes()[:-length])


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def full_box(kind: bytes, content: bytes, *, version: int = 0) -> bytes:
    return box(kind, struct.pack(">I", version << 24) + content)


@pytest.mark.skipif(not features.check("avif"), reason="Pillow was built without AVIF")
def test_an_animation_is_not_answered_by_its_transparency(tmp_path):
    """That takes more bits than the one color of a sticker, by which FFmpeg takes it for the picture."""
    path = tmp_path / "sticker.avif"
    masks = [draw_frame(index)[..., :1] for index in range(8)]
    first, *others = [
        Image.fromarray(np.concatenate([np.full((*mask.shape[:2], 3), (200, 30, 30), np.uint8), mask], axis=2))
        for mask in masks
    ]
    first.save(path, save_all=True, append_images=others, duration=100, quality=90)
    frames, info = decode_frames(path, lambda info: range(info.num_frames))
    assert info.num_frames == 8
    colors = frames.float().mean(dim=(0, 2, 3))
    assert colors.tolist() == pytest.approx([200, 30, 30], abs=4)


def picture_of_tiles(*, thumbnail: bool) -> bytes:
    """AVIF of 2 x 2 tiles, which are items 1 to 4; item 6 puts them together. Phones store HEIC so."""
    contents, header = [], b""
    for color in ("red", "green", "blue", "white", "black")[: 4 + thumbnail]:
        file = io.BytesIO()
        Image.new("RGB", (64, 64), color).save(file, "AVIF")
        data = file.getvalue()
        start, end = data.index(b"av1C") - 4, data.index(b"mdat") + 4
        header = data[start : start + int.from_bytes(data[start : start + 4], "big")]
        contents.append(data[end : end - 8 + int.from_bytes(data[end - 8 : end - 4], "big")])
    contents += [b""] * (5 - len(contents)) + [struct.pack(">4B2H", 0, 0, 1, 1, 128, 128)]
    numbers = [number for number, content in enumerate(contents, 1) if content]
    sizes = [full_box(b"ispe", struct.pack(">II", size, size)) for size in (64, 128)]
    properties = box(b"ipco", header + b"".join(sizes)) + full_box(
        b"ipma",
        struct.pack(">I", len(numbers))
        + b"".join(struct.pack(">HB", number, 2) + (b"\x81\x02" if number < 6 else b"\x81\x03") for number in numbers),
    )
    kinds = [
        full_box(b"infe", struct.pack(">HH4sx", number, 0, b"av01" if number < 6 else b"grid"), version=2)
        for number in numbers
    ]
    references = box(b"dimg", struct.pack(">6H", 6, 4, 1, 2, 3, 4))
    if thumbnail:
        references += box(b"thmb", struct.pack(">3H", 5, 1, 6))

    def head(start: int) -> bytes:
        places = b""
        for item in numbers:
            places += struct.pack(">HHHII", item, 0, 1, start, len(contents[item - 1]))
            start += len(contents[item - 1])
        return box(b"ftyp", b"avif\0\0\0\0avifmif1miaf") + full_box(
            b"meta",
            full_box(b"hdlr", b"\0\0\0\0pict" + bytes(13))
            + full_box(b"pitm", struct.pack(">H", 6))
            + full_box(b"iloc", struct.pack(">HH", 0x4400, len(numbers)) + places)
            + full_box(b"iinf", struct.pack(">H", len(numbers)) + b"".join(kinds))
            + box(b"iprp", properties)
            + full_box(b"iref", references),
        )

    return head(len(head(0)) + 8) + box(b"mdat", b"".join(contents))


@pytest.mark.skipif(not features.check("avif"), reason="Pillow was built without AVIF")
@pytest.mark.parametrize("thumbnail", [True, False])
def test_a_picture_made_of_tiles_is_not_answered_by_one_of_them(thumbnail):
    data = picture_of_tiles(thumbnail=thumbnail)
    assert Image.open(io.BytesIO(data)).size == (128, 128)
    with pytest.raises(VideoDecodeError, match=r"a picture made of tiles.*JPEG or PNG"):
        decode_frames(data, [0])


def with_main_item(data: bytes, item: int) -> bytes:
    return data.replace(full_box(b"pitm", struct.pack(">H", 6)), full_box(b"pitm", struct.pack(">H", item)))


@pytest.mark.skipif(not features.check("avif"), reason="Pillow was built without AVIF")
@pytest.mark.parametrize("empty", [b"", box(b"moov", b"")], ids=["", "with a box for tracks"])
def test_a_picture_that_is_made_from_another_one_is_not_answered_by_a_third(empty):
    items = picture_of_tiles(thumbnail=False) + empty
    for kind in (b"iden", b"tmap", b"some"):
        derived = items.replace(b"grid", kind)
        for data in (derived, with_main_item(derived, 9)):
            with pytest.raises(VideoDecodeError, match=r"its main picture .*made from another.*JPEG or PNG"):
                decode_frames(data, [0])
    for item, color in ((1, [255, 0, 0]), (3, [0, 0, 255])):
        (frame,), _ = decode_frames(with_main_item(items.replace(b"grid", b"iden"), item), [0])
        assert frame.float().mean(dim=(1, 2)).tolist() == pytest.approx(color, abs=4)


@pytest.mark.skipif(not features.check("avif"), reason="Pillow was built without AVIF")
def test_a_picture_in_one_piece_is_a_video_of_one_frame(tmp_path):
    path = tmp_path / "still.avif"
    Image.fromarray(draw_frame(9)).save(path, quality=90)
    frames, info = decode_frames(path, [0])
    assert [read_index(frame.numpy()) for frame in frames] == [9]
    assert info.num_frames == 1


@pytest.mark.parametrize(("suffix", "name"), [("webp", "WebP"), ("png", "PNG")])
def test_an_animation_that_is_not_offered_is_named(tmp_path, suffix, name):
    path = animation(tmp_path / f"clip.{suffix}")
    with pytest.raises(VideoDecodeError, match=f"a {name} picture.*GIF or MP4"):
        decode_frames(path, [0])


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".avi", ".flv"])
def test_a_file_that_is_cut_while_it_is_streamed_never_shows_another_moment(tmp_path, suffix):
    """Larger than all buffers together: what is read of it was there, and the error says where it ends."""
    options = {"crf": "1", "preset": "ultrafast", "g": "1"}
    kind = VideoKind(suffix, "libx264", options, width=640, height=480)
    path = render_video(tmp_path / f"clip{suffix}", kind, num_frames=60)
    assert path.stat().st_size > 2 * 2**20
    stream = stream_frames(path)
    shown = [read_index(next(stream).frame.numpy())]
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(VideoDecodeError, match="cut while it was read"):
        shown.extend(read_index(frame.frame.numpy()) for frame in stream)
    # FFmpeg may have read ahead.
    assert shown == list(range(len(shown)))


def boxes_of(content: bytes):
    """Kind and content of each box."""
    while content:
        size = int.from_bytes(content[:4], "big")
        yield content[4:8], content[8:size]
        content = content[size:]


def with_one_picture(content: bytes, num_frames: int) -> bytes:
    """Boxes whose table of samples leads to the first one again and again."""
    changed = b""
    for kind, inner in boxes_of(content):
        if kind == b"edts":
            continue
        if kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl"):
            inner = with_one_picture(inner, num_frames)
        elif kind == b"stts":
            inner = struct.pack(">IIII", 0, 1, num_frames, 512)
        elif kind == b"stsz":
            inner = struct.pack(">III", 0, int.from_bytes(inner[12:16], "big"), num_frames)
        elif kind == b"stsc":
            inner = struct.pack(">IIIII", 0, 1, 1, 1, 1)
        elif kind == b"stco":
            inner = struct.pack(">II", 0, num_frames) + inner[8:12] * num_frames
        changed += box(kind, inner)
    return changed


def test_a_table_that_names_one_picture_for_every_frame_of_a_day_is_refused(tmp_path):
    path = tmp_path / "still.mp4"
    with av.open(path, "w") as container:
        stream = container.add_stream("mjpeg", rate=25, width=640, height=480, pix_fmt="yuvj420p")
        noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
        for _ in range(2):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise, "rgb24")))
    data = path.read_bytes()
    few = with_one_picture(data, 20)
    assert probe_video(few).num_frames == 20
    with pytest.raises(VideoDecodeError, match="its packets have more than 16 times the bytes of the file"):
        probe_video(with_one_picture(data, 1000))
