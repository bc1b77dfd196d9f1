"""Image files as frames: decoded in the decoding process, in five formats, in the order of their numbers."""

import io
import itertools
import os
import socket
import struct
import sys
import time
import zipfile
import zlib
from pathlib import Path

import av
import fsspec
import numpy as np
import pytest
from PIL import Image, ImageSequence
from PIL.TiffImagePlugin import AppendingTiffWriter

from froster_hf.processing.video_processing_froster import read_video
from froster_hf.video.decoding import VideoDecodeError, VideoLimits, decode_image_files, decode_images
from froster_hf.video.frame_names import in_order
from froster_hf.video.source import check_source
from froster_hf.video.types import UnreadableVideoError

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


def picture(value: int) -> Image.Image:
    return Image.fromarray(np.full((24, 32, 3), value, np.uint8))


def values(folder: Path, **options) -> list[int]:
    """The gray of every frame that a folder is read as."""
    frames, metadata = read_video(folder, None, **options)
    assert metadata.total_num_frames == len(frames)
    return frames[:, 0, 0, 0].tolist()


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def text_bomb() -> bytes:
    """A small PNG with a text that unpacks to 8 MB."""
    out = io.BytesIO()
    picture(7).save(out, format="PNG")
    data = out.getvalue()
    end = data.index(b"IDAT") - 4
    text = zlib.compress(bytes(2**23), 9)
    return data[:end] + png_chunk(b"zTXt", b"a\0\0" + text) + data[end:]


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 24\n%%EndComments\nshowpage\n%%EOF\n"
HOSTILE = {
    "PostScript": POSTSCRIPT,
    "text bomb": text_bomb(),
    "PPM": b"P6 32 24 255\n" + bytes(32 * 24 * 3),
    "empty": b"",
    "cut": text_bomb()[:60],
    "vast": b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 60000, 60000, 1, 24, 0, 0, 0, 0, 0, 0),
    "nothing": b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 0, 0, 1, 24, 0, 0, 0, 0, 0, 0),
}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_five_formats_are_read_by_seven_suffixes(tmp_path, suffix):
    picture(90).save(tmp_path / f"1{suffix}", quality=100, lossless=True)
    assert values(tmp_path) == pytest.approx([90], abs=1)


def test_a_photograph_stands_as_every_viewer_shows_it(tmp_path):
    """A camera that was turned by 90 degrees says so in the file (EXIF), and stores the picture as it lay."""
    upright = np.zeros((24, 16, 3), np.uint8)
    upright[:12] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(upright)).save(tmp_path / "1.png", exif=exif)
    with Image.open(tmp_path / "1.png") as opened:
        for video in (tmp_path, [opened], [opened.convert("L")], [Image.fromarray(upright)]):
            frames, _ = read_video(video, None)
            assert frames[0].permute(1, 2, 0).tolist() == upright.tolist()


def tiff_of_colors(depth: int) -> tuple[bytes, np.ndarray]:
    """A TIFF file with a palette whose values have 16 bits, or as old writers store them, 8; and what it shows."""
    indices = np.arange(24 * 32, dtype=np.uint8).reshape(24, 32)
    colors = np.random.default_rng(0).integers(0, 256, (256, 3), dtype=np.uint8)
    image = Image.fromarray(indices, "P")
    image.putpalette(colors.tobytes())
    out = io.BytesIO()
    image.save(out, "TIFF")
    stored = colors.T.astype("<u2") * 256
    assert out.getvalue().count(stored.tobytes()) == 1
    written = stored + stored // 256 if depth == 16 else stored // 256
    return out.getvalue().replace(stored.tobytes(), written.tobytes()), colors[indices]


@pytest.mark.parametrize("depth", [8, 16])
def test_the_colors_of_a_palette_may_be_stored_in_8_bits(depth):
    data, shown = tiff_of_colors(depth)
    assert np.array_equal(decode_image_files({0: data})[0].permute(1, 2, 0).numpy(), shown)


def tiff(pixels: bytes, values: dict[int, list[int]]) -> bytes:
    """A TIFF file of these tags, whose pixels begin at byte 8."""
    kinds = {258: 3, 259: 3, 262: 3, 266: 3, 277: 3, 284: 3, 338: 3}
    table, further = struct.pack("<H", len(values)), b""
    place = 8 + len(pixels) + 2 + 12 * len(values) + 4
    for tag, numbers in sorted(values.items()):
        stored = struct.pack(f"<{len(numbers)}{'H' if tag in kinds else 'I'}", *numbers)
        table += struct.pack("<HHI", tag, kinds.get(tag, 4), len(numbers))
        table += stored.ljust(4, b"\0") if len(stored) <= 4 else struct.pack("<I", place + len(further))
        further += stored if len(stored) > 4 else b""
    return struct.pack("<2sHI", b"II", 42, 8 + len(pixels)) + pixels + table + bytes(4) + further


@pytest.mark.parametrize(
    ("bits", "meaning", "bit_order"), [(8, 2, 1), (16, 2, 1), (8, 2, 2), (8, 1, 1), (8, 0, 1), (1, 1, 1), (4, 1, 1)]
)
def test_planes_that_are_not_compressed_are_plain_ones_of_8_bits_or_refused(bits, meaning, bit_order):
    """Pillow takes all for plain planes of 8 bits, also where there is but one: a picture, but another one."""
    shown = np.random.default_rng(0).integers(0, 256, (24, 32, 3 if meaning == 2 else 1), dtype=np.uint8)
    planes = shown.transpose(2, 0, 1).astype("<u2" if bits == 16 else "u1") * (257 if bits == 16 else 1)
    count = len(planes)
    values = {256: [32], 257: [24], 258: [bits] * count, 259: [1], 262: [meaning], 266: [bit_order]}
    values |= {273: [8 + index * planes[0].nbytes for index in range(count)], 277: [count], 278: [24]}
    values |= {279: [24 * 32 * bits // 8] * count, 284: [2]}
    data = tiff(planes.tobytes(), values)
    if bits == 8 and meaning and bit_order == 1:
        assert np.array_equal(decode_image_files({0: data})[0].permute(1, 2, 0).numpy(), shown.repeat(3 // count, 2))
        return
    with pytest.raises(VideoDecodeError, match="or lie in planes of more or fewer than 8 bits"):
        decode_image_files({0: data})


@pytest.mark.parametrize("meaning", [None, 2])
@pytest.mark.parametrize(("compression", "is_tiled"), [(1, False), (1, True), (8, False), (8, True)])
def test_a_fourth_plane_without_a_meaning_does_not_alter_the_others(compression, is_tiled, meaning):
    """Pillow divides compressed colors by it, and skews tiles that reach beyond the right edge."""
    shown = np.random.default_rng(0).integers(0, 256, (16, 24, 4), dtype=np.uint8)
    planes = np.pad(shown, ((0, 0), (0, 8), (0, 0))).transpose(2, 0, 1) if is_tiled else shown.transpose(2, 0, 1)
    parts = [part.tobytes() for plane in planes for part in np.split(plane, 2 if is_tiled else 1, axis=1)]
    parts = [zlib.compress(part) if compression == 8 else part for part in parts]
    places = [8 + sum(map(len, parts[:index])) for index in range(len(parts))]
    values = {256: [24], 257: [16], 258: [8] * 4, 259: [compression], 262: [2], 277: [4], 284: [2]}
    values |= {322: [16], 323: [16], 324: places} if is_tiled else {273: places, 278: [16]}
    values |= {325 if is_tiled else 279: list(map(len, parts))} | ({} if meaning is None else {338: [meaning]})
    data = tiff(b"".join(parts), values)
    if meaning is None and (compression == 8 or is_tiled):
        with pytest.raises(VideoDecodeError, match=r"a fourth channel .* nothing says what it means \(ExtraSamples\)"):
            decode_image_files({0: data})
        return
    assert np.array_equal(decode_image_files({0: data})[0].permute(1, 2, 0).numpy(), shown[..., :3])


@pytest.mark.parametrize("num_tiles", [1, 200])
def test_tiles_for_far_more_pixels_than_a_picture_has_are_not_decoded(num_tiles):
    """All of them may be one: 200 of 16 million pixels took seven seconds."""
    side = 1024 if num_tiles == 1 else 4096
    stored = zlib.compress(bytes(side * side))
    values = {256: [16], 257: [side * num_tiles], 258: [8], 259: [8], 262: [1], 277: [1], 322: [side], 323: [side]}
    data = tiff(stored, values | {324: [8] * num_tiles, 325: [len(stored)] * num_tiles})
    if num_tiles == 1:
        assert decode_image_files({0: data}).shape == (1, 3, side, 16)
        return
    with pytest.raises(VideoDecodeError, match="its tiles of 4096x4096 have 3355443200 pixels, for a picture of 16x8"):
        decode_image_files({0: data}, limits=VideoLimits(max_pixels=2**30))


@pytest.mark.parametrize("num_colors", [0, 5, 6])
@pytest.mark.parametrize("image_format", ["PNG", "BMP", "TIFF"])
def test_pixels_of_colors_that_a_palette_lacks_are_not_black(image_format, num_colors):
    indices = np.arange(24 * 32, dtype=np.uint8).reshape(24, 32) % 6
    colors = np.random.default_rng(0).integers(1, 256, (6, 3), dtype=np.uint8)
    stored = colors[:num_colors]
    if image_format == "PNG":
        header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 32, 24, 8, 3, 0, 0, 0))
        pixels = png_chunk(b"IDAT", zlib.compress(np.pad(indices, ((0, 0), (1, 0))).tobytes()))
        palette = png_chunk(b"PLTE", stored.tobytes()) if num_colors else b""
        data = b"\x89PNG\r\n\x1a\n" + header + palette + pixels + png_chunk(b"IEND", b"")
    elif image_format == "BMP":
        # None stands for 256 there.
        count = num_colors or 1
        header = struct.pack("<IiiHHIIiiII", 40, 32, 24, 1, 8, 0, 24 * 32, 0, 0, count, 0)
        palette = np.pad(colors[:count, ::-1], ((0, 0), (0, 1))).tobytes()
        data = b"BM" + struct.pack("<IHHI", 54 + len(palette) + 24 * 32, 0, 0, 54 + len(palette))
        data += header + palette + indices[::-1].tobytes()
    else:
        values = {256: [32], 257: [24], 258: [8], 259: [1], 262: [3], 273: [8], 277: [1], 278: [24], 279: [24 * 32]}
        data = tiff(indices.tobytes(), values | {320: (stored.T.astype(int) * 257).ravel().tolist() or [0]})
    if num_colors == 6:
        assert np.array_equal(decode_image_files({0: data})[0].permute(1, 2, 0).numpy(), colors[indices])
        return
    with pytest.raises(VideoDecodeError, match=r"its palette has \d colors, and its pixels name number 5"):
        decode_image_files({0: data})


@pytest.mark.parametrize("sharing", [1, 2])
def test_colors_that_pixels_share_are_not_taken_for_their_own(sharing):
    """Pillow reads on behind such a strip, whatever lies there."""
    output = io.BytesIO()
    Image.new("YCbCr", (32, 24), (90, 128, 128)).save(output, "TIFF", tiffinfo={530: (sharing, sharing)})
    if sharing == 1:
        assert decode_image_files({0: output.getvalue()}).unique().tolist() == [90]
        return
    with pytest.raises(VideoDecodeError, match=r"are subsampled \(YCbCr\)"):
        decode_image_files({0: output.getvalue()})


@pytest.mark.parametrize("num_strips", [2, 3, 4])
def test_an_uncompressed_tiff_has_as_many_strips_as_its_size_needs(num_strips):
    """Pillow leaves the others black, and draws further ones over the first."""
    shown = np.random.default_rng(0).integers(1, 256, (24, 32, 3), dtype=np.uint8)
    behind = 8 + shown.nbytes
    tags = [(256, 4, 1, 32), (257, 4, 1, 24), (258, 3, 3, behind), (259, 3, 1, 1), (262, 3, 1, 2)]
    tags += [(273, 4, num_strips, behind + 6), (277, 3, 1, 3), (278, 4, 1, 8), (279, 4, num_strips, behind + 22)]
    places, sizes = [8 + 768 * min(number, 2) for number in range(4)], [768] * 4
    data = (
        struct.pack("<2sHI", b"II", 42, behind + 38)
        + shown.tobytes()
        + struct.pack("<3H4I4I", 8, 8, 8, *places, *sizes)
    )
    data += struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
    if num_strips != 3:
        with pytest.raises(VideoDecodeError, match="more or fewer strips or tiles than its size needs"):
            decode_image_files({0: data})
        return
    assert np.array_equal(decode_image_files({0: data})[0].permute(1, 2, 0).numpy(), shown)


@pytest.mark.parametrize("options", [{}, {"compression": "raw"}, {"tiffinfo": {278: 5}}, {"big_tiff": True}])
@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_tiff_as_pillow_writes_it_lacks_nothing(mode, options):
    output = io.BytesIO()
    (Image.new(mode, (33, 23), 1) if mode == "I;16" else picture(9).resize((33, 23)).convert(mode)).save(
        output, format="TIFF", **options
    )
    assert decode_image_files({0: output.getvalue()}).shape == (1, 3, 23, 33)


def test_files_by_address_have_the_time_of_one_call_together(tmp_path, monkeypatch):
    picture(9).save(tmp_path / "1.png")
    seconds = []

    def checked(source, *, limits, allow_urls):
        seconds.append(limits.timeout_seconds)
        time.sleep(0.02)
        return check_source(source, limits=limits, allow_urls=allow_urls)

    monkeypatch.setattr("froster_hf.video.decoding.check_source", checked)
    files = {index: str(tmp_path / "1.png") for index in range(4)}
    decode_image_files(files, limits=VideoLimits(timeout_seconds=30))
    assert all(later < earlier - 0.01 for earlier, later in itertools.pairwise(seconds))
    with pytest.raises(VideoDecodeError, match=r"opening the files took longer than 0\.03 seconds"):
        decode_image_files(files, limits=VideoLimits(timeout_seconds=0.03))


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "jpeg", "group4"])
def test_compressed_tiff_is_read(tmp_path, compression):
    image = picture(255).convert("1" if compression == "group4" else "RGB")
    image.save(tmp_path / "1.tif", compression=compression)
    assert values(tmp_path) == pytest.approx([255], abs=1)


def test_numbers_count_by_value_and_hidden_files_are_no_frames(tmp_path):
    for value, name in enumerate(["frame_2.png", "frame_10.png", "frame_010a.png", "frame_100.png", "zebra.png"]):
        picture(value).save(tmp_path / name)
    for name in ("._frame_2.png", ".hidden.png"):
        (tmp_path / name).write_bytes(b"no image")
    for name in ("frames.png", ".trash.png"):
        (tmp_path / name).mkdir()
    (tmp_path / "Thumbs.db").write_bytes(b"no image")
    assert values(tmp_path) == [0, 1, 2, 3, 4]


def test_digits_of_any_script_and_length_are_a_name(tmp_path):
    names = ["1\u00b2.png", "\u00b2.png", "\u0663.png", "9" * 240 + ".png", "\u2460.jpg.png"]
    for name in names:
        picture(1).save(tmp_path / name, format="PNG")
    assert values(tmp_path) == [1] * len(names)


ARABIC, FULL_WIDTH = (
    str.maketrans("0123456789", digits)
    for digits in (
        "\u0660\u0661\u0662\u0663\u0664\u0665\u0666\u0667\u0668\u0669",
        "\uff10\uff11\uff12\uff13\uff14\uff15\uff16\uff17\uff18\uff19",
    )
)


@pytest.mark.parametrize(
    "names",
    [
        # As file managers, browsers and cameras number further files.
        ["img", "img1", "img2", "img10"],
        ["img", "img (1)", "img (2)", "img (10)"],
        ["img", "img-1", "img-2", "img-10"],
        ["img", "img 2", "img 3", "img 10"],
        # Of fixed width.
        ["frame_0009", "frame_000a", "frame_000f", "frame_0010", "frame_001a"],
        ["f1F", "f20", "f21", "f2A"],
        ["12e4", "3e8a", "5e10"],
        [f"frame_{number}".translate(ARABIC) for number in range(8, 12)],
        [f"frame_{number}".translate(FULL_WIDTH) for number in range(8, 12)],
        ["Frame1", "frame2", "Frame3"],
        ["0,997", "0,998", "1,001"],
        # An accent as a character of its own, as macOS writes it.
        ["\u00e9t\u00e9_1", "e\u0301te\u0301_2", "\u00e9t\u00e9_10"],
        # A hyphen of all names.
        ["-1", "-2", "-10"],
        ["clip_-1", "clip_-2", "clip_-10"],
        ["cam-1_t1", "cam-1_t2", "cam-1_t10"],
        ["0.05", "0.5"],
    ],
)
def test_numbers_that_can_be_read_in_one_way_are_read_so(names):
    files = [f"{name}.png" for name in names]
    assert in_order(files[::-1]) == files


@pytest.mark.parametrize(
    "names", [["cam1_a", "cam1_b", "cam1_c"], ["a", "b", "c"], ["cover", "img1", "img2"], ["0.25", "0.5", "1", "2"]]
)
def test_names_of_several_texts_without_sequences_of_the_same_numbers_are_of_one_kind(names):
    files = [f"{name}.png" for name in names]
    assert in_order(files[::-1]) == files


@pytest.mark.parametrize("number", ["{}", "{:06d}", "{:08x}", "{:.3f}"])
def test_many_frames_are_sorted_in_a_moment(number):
    files = [f"{'a' * 30}_{number.format(index)}.png" for index in range(20_000)]
    assert in_order(files[::-1]) == files


@pytest.mark.parametrize(
    "names",
    [
        ["00000.jpg", "00000.png", "00001.jpg", "00001.png"],
        ["1.png", "2.png", "02.png"],
        ["a0.png", "a1.png", "A1.png"],
        ["1.png", "\uff11.png"],
        ["000a.jpg", "000a.png", "0010.jpg", "0010.png"],
        ["flow_x_00001.jpg", "flow_x_00002.jpg", "img_00001.jpg", "img_00002.jpg"],
        ["1.png", "2.png", "1_mask.png", "2_mask.png"],
    ],
)
def test_two_files_for_one_frame_are_refused_by_name(tmp_path, names):
    for name in names:
        picture(1).save(tmp_path / name)
    with pytest.raises(VideoDecodeError, match=r"' and '.*are of one frame by their names"):
        values(tmp_path)


@pytest.mark.parametrize(
    "name",
    ["2.jfif", "2.JPE", "2.heic", "2.hif", "2.avif", "2.jxl", "2.jp2", "2.pgm", "2.tga", "2.EXR", "2.dng", "2.gif"],
)
def test_a_frame_of_another_format_is_not_passed_over(tmp_path, name):
    picture(1).save(tmp_path / "1.jpg")
    picture(3).save(tmp_path / "3.jpg")
    (tmp_path / f"folder{Path(name).suffix}").mkdir()
    for beside in (f".{name}", "Thumbs.db", "folder.ico", "2.txt", "2.json", "2.npy", "contact_sheet.pdf"):
        (tmp_path / beside).touch()
    assert len(values(tmp_path)) == 2
    (tmp_path / name).touch()
    with pytest.raises(VideoDecodeError, match=f"{name!r}(, not of frames| is a picture of another format)"):
        values(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes on Linux")
def test_a_name_that_is_not_utf8_is_read_and_named(tmp_path):
    good, bad = os.fsencode(tmp_path) + b"/\xff1.png", os.fsencode(tmp_path) + b"/\xff2.png"
    out = io.BytesIO()
    picture(3).save(out, format="PNG")
    with open(good, "wb") as file:
        file.write(out.getvalue())
    assert values(tmp_path) == [3]
    with open(bad, "wb") as file:
        file.write(POSTSCRIPT)
    with pytest.raises(VideoDecodeError, match=r"2\.png': it is not an image"):
        values(tmp_path)


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_image_file_is_one_error_that_names_it(tmp_path, kind, monkeypatch, no_warm_process):
    (tmp_path / "1.png").write_bytes(HOSTILE[kind])
    picture(5).save(tmp_path / "2.png")
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    (programs / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    with pytest.raises(VideoDecodeError, match=r"'1\.png': ") as caught:
        values(tmp_path)
    assert (caught.value.file, caught.value.backend) == (str(tmp_path), "pillow")
    assert not (tmp_path / "ran").exists()
    # A frame that is not chosen is not read.
    assert read_video(tmp_path, lambda metadata: [1])[0].shape == (1, 3, 24, 32)


@pytest.mark.parametrize("kind", HOSTILE)
def test_files_given_one_by_one_are_held_to_the_same(tmp_path, kind):
    (tmp_path / "1.png").write_bytes(HOSTILE[kind])
    with pytest.raises(VideoDecodeError, match=r"1\.png"):
        read_video([picture(3), str(tmp_path / "1.png")], None)


@pytest.mark.parametrize("kind", HOSTILE)
def test_bytes_of_a_hostile_picture_are_one_error_that_names_its_place(tmp_path, kind):
    good = io.BytesIO()
    picture(9).save(good, format="PNG")
    rows = [{"bytes": good.getvalue(), "path": None}, {"bytes": HOSTILE[kind], "path": str(tmp_path / "1.png")}]
    with pytest.raises(VideoDecodeError, match="'frame 1': "):
        read_video(rows, None)
    assert read_video(rows, lambda metadata: [0])[0].unique().tolist() == [9]


def test_bytes_paths_and_pictures_make_one_video_within_the_limits(tmp_path):
    picture(4).save(tmp_path / "4.png")
    data = (tmp_path / "4.png").read_bytes()
    rows = [{"bytes": data, "path": "gone.png"}, {"bytes": None, "path": str(tmp_path / "4.png")}, data, picture(5)]
    frames, _ = read_video(rows, lambda metadata: [3, 0, 1, 2])
    assert frames[:, 0, 0, 0].tolist() == [5, 4, 4, 4]
    with pytest.raises(VideoDecodeError, match=r"the files have \d+ bytes; VideoLimits.max_memory_bytes"):
        read_video([data] * 3, None, limits={"max_memory_bytes": 2 * len(data)})
    for row, reason in [({"bytes": None, "path": None}, "needs 'bytes' or 'path'"), (None, "Not a frame: NoneType")]:
        with pytest.raises((TypeError, ValueError), match=reason):
            read_video([data, row], None)


def test_frames_at_addresses_are_read_where_the_caller_names_them():
    store = fsspec.filesystem("memory")
    out = io.BytesIO()
    picture(6).save(out, format="PNG")
    store.pipe_file("/frames/1.png", out.getvalue())
    row = [{"bytes": None, "path": "memory://frames/1.png"}]
    with pytest.raises(VideoDecodeError, match=r"'1\.png': .*allow_urls"):
        read_video(row, None)
    assert read_video(row, None, allow_urls="memory://frames")[0].unique().tolist() == [6]


def test_a_damaged_frame_in_an_archive_is_one_error_that_names_it(tmp_path):
    archive = tmp_path / "frames.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for number in range(3):
            file.writestr(f"a/{number}.png", encoded("PNG")[: 100 if number == 1 else None])
    addresses = [f"zip://a/{number}.png::file://{archive}" for number in range(3)]
    with pytest.raises(VideoDecodeError, match=r"'1\.png': "):
        decode_image_files(dict(enumerate(addresses)), allow_urls=addresses)
    with pytest.raises(VideoDecodeError, match=r"'2\.png': "):
        decode_image_files({0: "https://[::1]/a/2.png"}, allow_urls="https")


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tiff"])
def test_a_picture_that_is_the_first_of_several_is_refused_as_a_frame(tmp_path, suffix):
    (tmp_path / "frames").mkdir()
    path = tmp_path / "frames" / f"1.{suffix}"
    picture(9).save(path, save_all=True, append_images=[picture(90), picture(200)])
    given = {"folder": tmp_path / "frames", "list": [str(path)], "bytes": [path.read_bytes()]}
    with Image.open(path) as opened:
        for video in [[opened], *([] if suffix == "gif" else given.values())]:
            with pytest.raises(VideoDecodeError, match=r"it holds several pictures .*save an animation as GIF or MP4"):
                read_video(video, None)
        frames, _ = read_video([frame.copy() for frame in ImageSequence.Iterator(opened)], None)
        assert len(frames) == 3


def encoded(kind: str, value: int = 9, size: tuple[int, int] = (32, 24), **options) -> bytes:
    output = io.BytesIO()
    pixels = np.random.default_rng(value).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(output, format=kind, **options)
    return output.getvalue()


def piped(codec: str, pixel_format: str) -> bytes:
    """Pictures as ffmpeg writes them into a pipe (image2pipe, mjpeg)."""
    output = io.BytesIO()
    with av.open(output, "w", format="image2pipe") as file:
        stream = file.add_stream(codec, rate=1)
        stream.width, stream.height, stream.pix_fmt = 32, 24, pixel_format
        for value in (0, 50, 100):
            frame = av.VideoFrame.from_ndarray(np.full((24, 32, 3), value, np.uint8)).reformat(format=pixel_format)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return output.getvalue()


JPEG = encoded("JPEG")
XMP = b"http://ns.adobe.com/xap/1.0/\0<x/>"
BEHIND = {
    "jpeg": (JPEG + encoded("JPEG", 1), True),
    "progressive jpeg": (encoded("JPEG", progressive=True) * 2, True),
    "jpeg that is cut": (JPEG + JPEG[:-20], True),
    "filled up": (JPEG + bytes(7) + JPEG, True),
    "webp": (encoded("WEBP") * 2, True),
    "png": (encoded("PNG") + encoded("PNG", 1), True),
    "bmp": (encoded("BMP") * 2, True),
    "motion jpeg": (piped("mjpeg", "yuvj420p"), True),
    "pipe of png": (piped("png", "rgb24"), True),
    "pipe of bmp": (piped("bmp", "bgr24"), True),
    # What phones and cameras leave behind a picture.
    "nothing": (JPEG, False),
    "thumbnail": (JPEG + encoded("JPEG", size=(16, 12)), False),
    "motion photo": (JPEG + b"\0\0\0\x18ftypmp42" + bytes(50), False),
    "blocks": (JPEG + b"\0\0\1\x0a\x0e\0\0\0Image_UTC_Data1700000000000SEFH" + bytes(20) + b"SEFT", False),
    "depth": (JPEG * 2 + b"edof" + bytes(20), False),
    "announced": (JPEG[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(XMP)) + XMP + JPEG[2:] + JPEG, False),
    "zeros": (JPEG + bytes(500), False),
    "webp and more": (encoded("WEBP") + bytes(9), False),
    "png and more": (encoded("PNG") + b"more", False),
    "bmp and more": (encoded("BMP") + b"BMore", False),
}


@pytest.mark.parametrize("name", BEHIND)
def test_pictures_one_behind_the_other_are_told_from_what_phones_append(name):
    data, are_several = BEHIND[name]
    with Image.open(io.BytesIO(data)) as opened:
        for video in ([data], [opened]):
            if are_several:
                with pytest.raises(VideoDecodeError, match="holds several pictures, one behind the other"):
                    read_video(video, None)
            else:
                assert read_video(video, None)[0].shape[2:] == (24, 32)


def test_a_thumbnail_is_not_taken_for_the_picture_below_it(tmp_path):
    for below in ({}, {330: 8}):
        picture(9).save(tmp_path / "1.tiff", tiffinfo={254: 1, **below})
        if not below:
            assert values(tmp_path) == [9]
    with pytest.raises(VideoDecodeError, match="it holds several pictures"):
        read_video(tmp_path, None)


def test_pictures_that_belong_to_the_first_one_are_passed_over(tmp_path):
    # As phones save photographs with a second picture, and scanners and maps a picture with smaller copies.
    picture(1).save(tmp_path / "1.jpg", format="MPO", save_all=True, append_images=[picture(2)])
    pages = [picture(1), picture(2).resize((16, 12)), picture(3).resize((8, 6))]
    with AppendingTiffWriter(str(tmp_path / "2.tiff"), True) as file:
        for page in pages:
            page.save(file, format="TIFF", tiffinfo={254: int(page is not pages[0])})
            file.newFrame()
    names = ("1.jpg", "2.tiff")
    assert values(tmp_path) == [1, 1]
    with Image.open(tmp_path / "1.jpg") as photograph, Image.open(tmp_path / "2.tiff") as scan:
        assert (photograph.n_frames, scan.n_frames) == (2, 3)
        assert read_video([photograph, scan], None)[0].unique().tolist() == [1]
    picture(1).save(tmp_path / "3.gif")
    with Image.open(tmp_path / "3.gif") as closed:
        closed.load()
    assert read_video([closed, *(str(tmp_path / name) for name in names)], None)[0].shape[0] == 3


def test_names_of_frames_act_on_no_terminal(tmp_path):
    (tmp_path / "\x1b[31m.png").write_bytes(b"no image")
    with pytest.raises(VideoDecodeError) as caught:
        values(tmp_path)
    assert str(caught.value).isprintable()


def test_pictures_that_pillow_has_opened_are_held_to_the_limit_before_they_are_decoded(tmp_path, monkeypatch):
    picture(4).save(tmp_path / "4.png")
    frames = [Image.open(tmp_path / "4.png"), picture(5)]
    limits = {"max_decoded_bytes": 3 * 32 * 24 * 3}
    assert len(read_video(frames, lambda metadata: [0, 1, 1], limits=limits)[0]) == 3
    monkeypatch.setattr(Image.Image, "convert", lambda *_: pytest.fail("a picture was decoded"))
    with pytest.raises(VideoDecodeError, match=r"the frames take 9216 bytes; VideoLimits.max_decoded_bytes is 6912"):
        read_video(frames, lambda metadata: [0, 1, 1, 0], limits=limits)


def test_files_and_pictures_in_memory_make_one_video(tmp_path):
    picture(4).save(tmp_path / "4.png")
    picture(2).save(tmp_path / "2.png")
    frames, _ = read_video([tmp_path / "4.png", picture(3), str(tmp_path / "2.png")], lambda metadata: [2, 0, 1, 1])
    assert frames[:, 0, 0, 0].tolist() == [2, 4, 3, 3]


@pytest.mark.parametrize("target", ["fifo", "folder", "missing"])
def test_paths_that_are_no_image_files_are_one_error(tmp_path, target):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    with pytest.raises(VideoDecodeError, match=f"'{target}': (it is .*, not a regular file|there is no such file)"):
        read_video([str(tmp_path / target)], None)


@pytest.mark.parametrize(
    "names",
    [
        ["0.0", "0.25", "0.5", "0.75", "1.0", "1.25", "1.5", "10.0"],
        ["0", "0.125", "0.25", "1", "1.5"],
        ["frame_0.25", "frame_0.5", "frame_2.0"],
        ["GOPR0123_0.0", "GOPR0123_0.25", "GOPR0123_0.5", "GOPR0123_1.0"],
        ["clip.mp4_0.25", "clip.mp4_0.5", "clip.mp4_1"],
        ["cam1-0.25s", "cam1-0.5s", "cam1-10.0s"],
        ["clip_30fps_0.03", "clip_30fps_0.07", "clip_30fps_0.1", "clip_30fps_0.13"],
        ["scene2_0.25", "scene2_0.5", "scene10_0.125", "scene10_0.5"],
        ["v1.2_frame9", "v1.2_frame10"],
        ["cam1.0.25", "cam1.0.50", "cam1.0.75"],
        # No numbers of seconds: each part counts by itself.
        ["v1.8", "v1.9", "v1.10", "v1.11"],
        ["cam1_v1.8", "cam1_v1.9", "cam1_v1.10", "cam1_v1.11"],
        ["2024.1.5", "2024.1.10", "2024.2.1"],
        ["1.2.3", "1.2.10", "1.10.1"],
        ["a_0.5", "a_0.25_b"],
        # Neither signs nor exponents, or such that the order is the same.
        ["frame-001", "frame-002", "frame-010"],
        ["frame - 1", "frame - 2"],
        ["video -1", "video -2", "video -10"],
        ["2024-01-05_000123", "2024-01-05_000124", "2024-01-06_000001"],
        ["2024-01-05-1", "2024-01-05-10"],
        ["shot 1-2", "shot 1-10", "shot 2-1"],
        ["S01E05", "S01E10", "S02E01"],
        ["1,2,3", "1,2,10", "1,10,1"],
        ["clip_00:01,500", "clip_00:02,250"],
        ["t_+1", "t_+2", "t_+10"],
    ],
)
def test_frames_that_are_called_by_their_seconds_are_in_the_order_of_these(tmp_path, names):
    for value, name in enumerate(names):
        picture(value).save(tmp_path / f"{name}.png")
    assert values(tmp_path) == list(range(len(names)))


def test_frames_whose_order_depends_on_what_a_dot_is_are_refused(tmp_path):
    """Of cam1 at 0.25 and 0.5 seconds, or pictures 5 and 25 of something."""
    for value, name in enumerate(("cam1.0.25", "cam1.0.5")):
        picture(value).save(tmp_path / f"{name}.png")
    with pytest.raises(VideoDecodeError, match=r"'cam1\.0\.25\.png' or 'cam1\.0\.5\.png' .*number the frames"):
        values(tmp_path)


@pytest.mark.parametrize("mark", [".", ",", " ", "_", "'", "\u2019", "\u00a0", "\u202f"])
def test_frames_whose_order_depends_on_whether_thousands_are_set_apart_are_refused(mark):
    with pytest.raises(UnreadableVideoError, match="cannot be told from their marks of thousands; number the frames"):
        in_order(["998.png", "999.png", f"1{mark}000.png"])
    # In the same order either way.
    names = [f"{shot}{mark}{number}.png" for shot in (1, 2, 10) for number in (100, 101)]
    assert in_order(names[::-1]) == names


@pytest.mark.parametrize(
    "names",
    [
        ["-2", "-1", "0", "1"],
        ["frame_-2", "frame_-1", "frame_0"],
        ["t-2", "t-1", "t0"],
        ["t-1", "t+1"],
        ["frame [-1]", "frame [0]"],
        ["frame.-1", "frame.0"],
        ["t_\u20131", "t_1"],
        ["t=-0.5", "t=0.5"],
        ["t -1", "t 0"],
        ["t_\u22121", "t_1"],
        ["0,25", "0,5", "1,0"],
        ["1e-05", "0.5"],
        ["t_1e+02", "t_2e+01"],
        ["1e-05", "1e-04"],
    ],
)
def test_frames_whose_order_depends_on_signs_commas_or_exponents_are_refused(tmp_path, names):
    for value, name in enumerate(names):
        picture(value).save(tmp_path / f"{name}.png")
    with pytest.raises(VideoDecodeError, match="cannot be told from their signs, commas and exponents; number the fr"):
        values(tmp_path)


@pytest.mark.parametrize("target", ["2.png", "missing.png"])
def test_a_link_that_leads_nowhere_is_a_frame_that_cannot_be_read(tmp_path, target):
    """As where files are fetched later, or their disk is not there: the other frames are not the video."""
    picture(1).save(tmp_path / "1.png")
    picture(3).save(tmp_path / "3.png")
    (tmp_path / "2.png").symlink_to(target)
    with pytest.raises(VideoDecodeError, match=r"'2\.png': "):
        values(tmp_path)
    assert decode_images(tmp_path, indices=lambda count: [0, count - 1]).num_frames == 3


@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "link to a folder"])
def test_what_stands_in_place_of_a_frame_is_not_passed_over(tmp_path, monkeypatch, kind):
    """Nor opened and waited for. A folder of such a name is one of something else."""
    picture(1).save(tmp_path / "1.png")
    picture(3).save(tmp_path / "3.png")
    (tmp_path / "4.png").mkdir()
    assert values(tmp_path) == [1, 3]
    with socket.socket(socket.AF_UNIX) as server:
        if kind == "pipe":
            os.mkfifo(tmp_path / "2.png")
        elif kind == "socket":
            # By a short name, as sockets need.
            monkeypatch.chdir(tmp_path)
            server.bind("2.png")
        else:
            (tmp_path / "2.png").symlink_to("/dev/zero" if kind == "device" else "4.png")
        with pytest.raises(VideoDecodeError, match=r"'2\.png': it is not a regular file"):
            values(tmp_path)


def test_a_folder_that_cannot_be_listed_is_one_error(tmp_path):
    with pytest.raises(VideoDecodeError, match="there is no such file"):
        decode_images(tmp_path / "gone", indices=range)
    with pytest.raises(VideoDecodeError, match="holds no image files"):
        decode_images(tmp_path, indices=range)


def test_pictures_of_more_than_eight_bits_are_one_error(tmp_path):
    deep = Image.fromarray(np.linspace(0, 65535, 24 * 32).astype(np.uint16).reshape(24, 32))
    deep.save(tmp_path / "1.png")
    with pytest.raises(VideoDecodeError, match=r"'1\.png': its pixels are not numbers from 0 to 255"):
        values(tmp_path)
    with pytest.raises(ValueError, match=r"not within 0 to 255: give pictures of 8 bits"):
        read_video([deep], None)
    (tmp_path / "1.png").unlink()
    for number in (np.nan, np.inf, -1.0, 1e6):
        wild = np.full((24, 32), 7, np.float32)
        wild[0, 0] = number
        Image.fromarray(wild).save(tmp_path / "1.tiff")
        with pytest.raises(VideoDecodeError, match=r"'1\.tiff': its pixels are not numbers from 0 to 255"):
            values(tmp_path)
        with pytest.raises(ValueError, match=r"not within 0 to 255|NaN or infinite"):
            read_video([Image.fromarray(wild)], None)
    scaled = Image.fromarray(np.full((24, 32), 0.5, np.float32))
    scaled.save(tmp_path / "1.tiff")
    with pytest.raises(VideoDecodeError, match="floats of at most 1"):
        values(tmp_path)
    with pytest.raises(ValueError, match="floats of at most 1"):
        read_video([scaled], None)
    # A few bits in a wide type are all there.
    frames, _ = read_video([Image.fromarray(np.full((24, 32), 200, np.int32))], None)
    assert frames.unique().tolist() == [200]


def test_frames_of_different_sizes_are_one_error(tmp_path):
    picture(1).save(tmp_path / "1.png")
    picture(1).resize((30, 24)).save(tmp_path / "2.png")
    with pytest.raises(VideoDecodeError, match=r"'2\.png': the frames differ in size: 32x24 and 30x24"):
        values(tmp_path)


@pytest.mark.parametrize(
    "limits",
    [
        {"max_pixels": 32 * 24 - 1},
        {"max_file_bytes": 50},
        {"max_memory_bytes": 50},
        {"max_frames": 2},
        {"max_decoded_bytes": 3 * 32 * 24 * 3 - 1},
    ],
)
def test_limits_hold(tmp_path, limits):
    for index in range(3):
        picture(index).save(tmp_path / f"{index}.png")
    with pytest.raises(VideoDecodeError, match=f"VideoLimits.{next(iter(limits))} "):
        values(tmp_path, limits=limits)
    assert values(tmp_path) == [0, 1, 2]


def test_time_is_bounded(tmp_path):
    picture(1).save(tmp_path / "1.png")
    with pytest.raises(VideoDecodeError, match="timeout_seconds"):
        values(tmp_path, limits={"timeout_seconds": 1e-6})


def test_repeats_count_as_what_they_take(tmp_path):
    picture(1).save(tmp_path / "1.png")
    with pytest.raises(VideoDecodeError, match="max_decoded_bytes"):
        decode_images(tmp_path, indices=lambda num_frames: [0] * 1_000_000)
    # Its frames were on their way already; the next request must not take them for its answer.
    assert len(decode_images(tmp_path, indices=lambda num_frames: [0, 0]).frames) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="Linux bounds a process's memory")
def test_memory_is_bounded(tmp_path):
    """A PNG that says that it has 3.6 GB of pixels."""
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    chunks = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(bytes(1000))) + png_chunk(b"IEND", b"")
    (tmp_path / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    with pytest.raises(VideoDecodeError, match="max_worker_bytes"):
        values(tmp_path, limits={"max_pixels": 2**40, "max_worker_bytes": 2**28})


def test_a_folder_of_videos_is_not_read_as_the_frames_of_its_pictures(tmp_path):
    picture(90).save(tmp_path / "poster.png")
    (tmp_path / "._poster.mp4").touch()
    (tmp_path / "clips.mp4").mkdir()
    assert values(tmp_path) == [90]
    (tmp_path / "clip.MP4").touch()
    with pytest.raises(VideoDecodeError, match=r"a folder of videos, such as 'clip\.MP4', not of frames"):
        values(tmp_path)


@pytest.mark.parametrize(
    "address", ["https://images.test/a.png?token=secret", "s3://images/a.png?token=secret", "https://me:secret@images"]
)
@pytest.mark.parametrize("number", [1, 2])
def test_no_message_of_frames_by_address_shows_a_token(address, number):
    with pytest.raises(VideoDecodeError) as refusal:
        decode_image_files(dict.fromkeys(range(number), address))
    assert "secret" not in str(refusal.value)
    assert "***" in str(refusal.value)
