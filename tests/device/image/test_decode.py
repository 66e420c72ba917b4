"""What becomes an image, and what is refused; whatever the bytes are, nothing else is raised or printed."""

import io
import resource
import struct
import warnings
import zlib

import cv2
import numpy as np
import PIL.Image
import pytest
import tifffile

from cellseg_device.errors import ImageError
from cellseg_device.image.decode import decode
from cellseg_device.image.opencv import MAX_SIDE_PX
from cellseg_device.image.source import OTHER_SUFFIXES, SUFFIXES, is_image_name, is_other_image_name, read

HEIGHT, WIDTH = 37, 53
TEXT, SHORT, LONG = 2, 3, 4  # types of TIFF tags


def smooth(seed, height=HEIGHT, width=WIDTH):
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2), None, 0, 255, cv2.NORM_MINMAX)


RGB = smooth(0)
GREY = np.ascontiguousarray(RGB[..., 1])
ALPHA = smooth(1)[..., 0]
RGBA = np.dstack([RGB, ALPHA])
GREY_ALPHA = np.dstack([GREY, ALPHA])


def sixteen(pixels):
    """All 16 bits in use: the high byte alone does not tell the value."""
    return pixels.astype(np.uint16) * 256 + 255 - pixels


def pil(pixels, kind, mode=None, **options):
    data = io.BytesIO()
    picture = pixels if isinstance(pixels, PIL.Image.Image) else PIL.Image.fromarray(pixels)
    (picture.convert(mode) if mode else picture).save(data, kind, **options)
    return data.getvalue()


def tiff(pixels, **options):
    data = io.BytesIO()
    options = {"photometric": "rgb" if pixels.ndim == 3 else "minisblack"} | options
    tifffile.imwrite(data, pixels, **options)
    return data.getvalue()


def retagged(data, **values):
    """With other values of these tags of the first page."""
    changed = bytearray(data)
    with tifffile.TiffFile(io.BytesIO(data)) as tif:
        for name, value in values.items():
            struct.pack_into("<H", changed, tif.pages.first.tags[name].valueoffset, value)
    return bytes(changed)


def tiff_of_bits(values, bits, **tags):
    """A TIFF of any number of bits for a value, with other or further tags, written as ``t278=(LONG, [64])``."""
    height, width, samples = (*values.shape, 1)[:3]
    rows = values.reshape(height, -1).astype(np.uint32)
    single = (rows[..., None] >> np.arange(bits - 1, -1, -1, dtype=np.uint32)) & 1
    packed = np.packbits(single.reshape(height, -1).astype(np.uint8), axis=1)
    if bits == 16:
        packed = np.ascontiguousarray(values.reshape(height, -1), "<u2").view(np.uint8)
    if tags.get("t266") == (SHORT, [2]):
        packed = np.packbits(
            np.unpackbits(packed, axis=1).reshape(height, -1, 8)[..., ::-1].reshape(height, -1), axis=1
        )
    rows_per_strip = tags.get("t278", (LONG, [height]))[1][0]
    strips = [packed[top : top + rows_per_strip].tobytes() for top in range(0, height, rows_per_strip)]
    compression = tags.get("t259", (SHORT, [1]))[1][0]
    if compression == 8:
        strips = [zlib.compress(strip) for strip in strips]
    if compression == 32773:  # in runs of one byte
        strips = [b"".join(bytes([0, byte]) for byte in strip) for strip in strips]
    places = np.cumsum([8, *(len(strip) for strip in strips)])[:-1].tolist()
    tags = {
        "t256": (LONG, [width]),
        "t257": (LONG, [height]),
        "t258": (SHORT, [bits] * samples),
        "t259": (SHORT, [1]),
        "t262": (SHORT, [1]),
        "t273": (LONG, places),
        "t277": (SHORT, [samples]),
        "t278": (LONG, [rows_per_strip]),
        "t279": (LONG, [len(strip) for strip in strips]),
        **tags,
    }
    return tiff_of_tags(b"".join(strips), tags)


def tiff_of_tags(data, tags):
    start = 8 + len(data)
    entries, values, place = b"", b"", start + 2 + 12 * len(tags) + 4
    for name, (kind, numbers) in sorted(tags.items()):
        packed = bytes(numbers) if kind == TEXT else struct.pack(f"<{len(numbers)}{'HI'[kind - 3]}", *numbers)
        entries += struct.pack("<HHI", int(name[1:]), kind, len(numbers))
        entries += packed.ljust(4, b"\0") if len(packed) <= 4 else struct.pack("<I", place + len(values))
        values += packed if len(packed) > 4 else b""
    return b"II*\0" + struct.pack("<I", start) + data + struct.pack("<H", len(tags)) + entries + bytes(4) + values


def opencv(suffix, pixels):
    """As written by OpenCV, which wants BGR."""
    return cv2.imencode(suffix, pixels if pixels.ndim == 2 else np.ascontiguousarray(pixels[..., ::-1]))[1].tobytes()


def png_chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_of_header_alone(width, height):
    content = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", content) + png_chunk(b"IDAT", b"") + png_chunk(b"IEND", b"")


def outcome(data):
    """Pixels, or the reason why there are none."""
    try:
        return decode(data).pixels
    except ImageError as error:
        return error.message


def assert_pixels(data, expected):
    pixels = decode(data).pixels
    assert pixels.dtype == expected.dtype
    assert pixels.flags.c_contiguous
    assert np.array_equal(pixels, expected)


@pytest.mark.parametrize("pixels", [GREY, RGB], ids=["grey", "rgb"])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_eight_and_sixteen_bits_keep_every_value_and_the_order_of_colours(suffix, pixels):
    assert_pixels(opencv(suffix, pixels), pixels)
    assert_pixels(opencv(suffix, sixteen(pixels)), sixteen(pixels))


@pytest.mark.parametrize(("pixels", "expected"), [(RGBA, RGB), (GREY_ALPHA, GREY)], ids=["rgba", "grey+alpha"])
def test_alpha_of_a_png_is_dropped_and_does_not_touch_the_colours(pixels, expected):
    assert_pixels(pil(pixels, "PNG"), expected)


def test_an_animated_png_is_refused_since_opencv_may_crash_on_its_frames():
    data = pil(RGB, "PNG")
    header_end = 8 + 25
    animation = png_chunk(b"acTL", struct.pack(">II", 2, 0)) + png_chunk(b"fcTL", bytes(26))
    with pytest.raises(ImageError, match="is an animated PNG: save each frame as a file of its own"):
        decode(data[:header_end] + animation + data[header_end:])


@pytest.mark.parametrize("megabytes", [1.2, 9])
def test_a_png_may_hold_much_beside_its_pixels(megabytes, capfd):
    data = pil(GREY, "PNG")
    much = b"metadata " * int(megabytes * 1e6 / 9)
    for kind, content in (
        (b"zTXt", b"Metadata\0\0" + zlib.compress(much)),
        (b"iTXt", b"Metadata\0\0\0\0\0" + much),
        (b"iCCP", b"profile\0\0" + zlib.compress(much)),
        (b"prVt", much),
    ):
        assert_pixels(data[:33] + png_chunk(kind, content) + data[33:], GREY)
    assert_pixels(data[:33] + png_chunk(b"tEXt", b"a\0b") * 5000 + data[33:], GREY)
    transparent = pil(PIL.Image.fromarray(RGB).convert("P"), "PNG", transparency=3)
    at = transparent.index(b"IDAT") - 4
    with_much = transparent[:at] + png_chunk(b"prVt", much) + transparent[at:]
    assert_pixels(with_much, decode(transparent).pixels)
    assert capfd.readouterr() == ("", "")


def test_a_palette_is_looked_up():
    picture = PIL.Image.fromarray(RGB).convert("P")
    for kind in ("PNG", "TIFF"):
        data = io.BytesIO()
        picture.save(data, kind)
        assert_pixels(data.getvalue(), np.asarray(picture.convert("RGB")))


@pytest.mark.parametrize(
    "options", [{"kind": "PNG"}, {"kind": "TIFF"}, {"kind": "TIFF", "compression": "group4"}], ids=str
)
def test_one_bit_becomes_black_and_white(options):
    expected = np.asarray(PIL.Image.fromarray(GREY).convert("1")).astype(np.uint8) * 255
    assert_pixels(pil(GREY, mode="1", **options), expected)


def test_jpeg_is_close_to_what_was_saved():
    assert np.abs(decode(pil(GREY, "JPEG", quality=100)).pixels.astype(int) - GREY).max() <= 2
    found = decode(pil(RGB, "JPEG", quality=100, subsampling=0)).pixels
    assert np.abs(found.astype(int) - RGB).max() <= 6
    assert decode(pil(RGB, "JPEG", progressive=True)).pixels.shape == RGB.shape


def test_orientation_of_a_jpeg_is_left_as_the_sensor_saw_it():
    exif = PIL.Image.Exif()
    exif[0x112] = 6  # a quarter turn
    assert decode(pil(RGB, "JPEG", exif=exif)).shape == (HEIGHT, WIDTH)


TIFF_LAYOUTS = [
    {},
    {"compression": "zlib"},
    {"compression": "zlib", "predictor": True},
    {"byteorder": ">"},
    {"byteorder": ">", "compression": "zlib"},
    {"rowsperstrip": 8},
    {"tile": (16, 16)},
    {"tile": (48, 80), "compression": "zlib"},
    {"bigtiff": True},
]


@pytest.mark.parametrize("layout", TIFF_LAYOUTS, ids=str)
@pytest.mark.parametrize("depth", [np.asarray, sixteen], ids=["8-bit", "16-bit"])
def test_tiff_layouts(layout, depth):
    assert_pixels(tiff(depth(GREY), **layout), depth(GREY))
    assert_pixels(tiff(depth(RGB), **layout), depth(RGB))
    assert_pixels(tiff(depth(RGBA), extrasamples=["unassalpha"], **layout), depth(RGB))
    planes = np.ascontiguousarray(np.moveaxis(depth(RGB), -1, 0))
    assert_pixels(tiff(planes, planarconfig="separate", **layout), depth(RGB))
    grey_alpha = depth(GREY_ALPHA)
    options = {"photometric": "minisblack", "planarconfig": "contig", "extrasamples": ["unassalpha"]}
    assert_pixels(tiff(grey_alpha, **options, **layout), depth(GREY))


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "tiff_adobe_deflate"])
@pytest.mark.parametrize("pixels", [GREY, RGB], ids=["grey", "rgb"])
def test_tiff_compressions(compression, pixels):
    assert_pixels(pil(pixels, "TIFF", compression=compression), pixels)


@pytest.mark.parametrize("depth", [np.asarray, sixteen], ids=["8-bit", "16-bit"])
def test_lzw_is_decoded_as_what_is_not_compressed(depth):
    pixels = depth(GREY)
    data = pil(pixels, "TIFF", compression="tiff_lzw")
    assert_pixels(retagged(data, PhotometricInterpretation=0), ~pixels)
    for orientation in range(1, 9):
        assert_pixels(pil(pixels, "TIFF", compression="tiff_lzw", tiffinfo={274: orientation}), pixels)


@pytest.mark.parametrize(("pixels", "expected"), [(RGBA, RGB), (GREY_ALPHA, GREY)], ids=["rgba", "grey+alpha"])
def test_alpha_of_an_lzw_tiff_is_dropped_and_does_not_touch_the_colours(pixels, expected):
    assert_pixels(pil(pixels, "TIFF", compression="tiff_lzw"), expected)


def test_a_plane_taken_out_of_an_imagej_stack_is_an_image_of_its_own():
    data = tiff(GREY, metadata=None, description="ImageJ=1.54f\nimages=5\nslices=5\n")
    assert_pixels(data, GREY)
    assert_pixels(tiff(GREY, metadata=None, description="ImageJ=1.54f\nimages=many\n"), GREY)


def test_what_opencv_would_mix_up_is_refused():
    planes = np.ascontiguousarray(np.moveaxis(sixteen(RGB), -1, 0))
    for data in (
        retagged(tiff(planes, planarconfig="separate"), Compression=5),
        retagged(tiff(planes, planarconfig="separate", photometric="minisblack"), Compression=5),
        retagged(tiff(RGB, photometric="minisblack", planarconfig="contig"), Compression=5),
    ):
        with pytest.raises(ImageError, match="has channels that its compression mixes up: save it uncompressed"):
            decode(data)


def test_a_compression_that_is_not_known_is_named():
    with pytest.raises(ImageError, match="is compressed with ZSTD: save it uncompressed"):
        decode(retagged(tiff(GREY), Compression=50000))


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5, 6, 7, 9, 10, 12, 14, 15])
@pytest.mark.parametrize("samples", [1, 3])
def test_tiffs_of_any_depth(bits, samples):
    """Those of under 8 bits are spread over 8, as those of a PNG are."""
    top = (1 << bits) - 1
    values = np.random.default_rng(bits).integers(0, top + 1, (HEIGHT, WIDTH, samples)).astype(np.uint16)
    expected = (values * 255 // top).astype(np.uint8) if bits < 8 else values
    turned = (255 if bits < 8 else top) - expected
    expected, turned = (pixels[..., 0] if samples == 1 else pixels for pixels in (expected, turned))
    colours = (SHORT, [2 if samples == 3 else 1])
    for more in ({}, {"t259": (SHORT, [8])}, {"t259": (SHORT, [32773])}, {"t278": (LONG, [7])}, {"t266": (SHORT, [2])}):
        assert_pixels(tiff_of_bits(values, bits, t262=colours, **more), expected)
    assert_pixels(tiff_of_bits(values, bits, t262=(SHORT, [0])), turned.astype(expected.dtype))
    with pytest.raises(ImageError, match=r"is a (truncated|damaged) TIFF"):
        decode(tiff_of_bits(values, bits, t262=colours, t257=(LONG, [HEIGHT + 9])))


def test_four_bits_are_those_that_pillow_reads():
    values = np.random.default_rng(0).integers(0, 16, (HEIGHT, WIDTH)).astype(np.uint16)
    data = tiff_of_bits(values, 4)
    with PIL.Image.open(io.BytesIO(data)) as picture:
        assert_pixels(data, np.asarray(picture.convert("L")))


def test_a_tiff_with_jpeg_inside():
    found = decode(pil(RGB, "TIFF", compression="jpeg", quality=100)).pixels
    assert np.abs(found.astype(int) - RGB).max() <= 6


@pytest.mark.parametrize("depth", [np.asarray, sixteen], ids=["8-bit", "16-bit"])
def test_white_is_zero_is_turned_round(depth):
    assert_pixels(tiff(~depth(GREY), photometric="miniswhite"), depth(GREY))


TABLES = {
    "grey": np.stack([np.arange(256)] * 3),
    "inverted": np.stack([255 - np.arange(256)] * 3),
    "hot": np.clip(np.arange(256)[None] * 3 - np.array([[0], [255], [510]]), 0, 255),
}


@pytest.mark.parametrize("name", TABLES)
def test_what_imagej_shows_by_a_lookup_table_is_taken_by_its_values(name):
    """ImageJ stores 8-bit grey with a table as palette indices, and an inverted one as MinIsWhite."""
    options = {"photometric": "palette", "colormap": (TABLES[name] * 257).astype(np.uint16), "metadata": None}
    of_imagej = tiff(GREY, description="ImageJ=1.54f\n", **options)
    assert_pixels(of_imagej, GREY)
    assert_pixels(tiff(GREY, description="ImageJ=1.54f\n", **options, compression="zlib"), GREY)
    assert_pixels(tiff(GREY, **options), TABLES[name].T.astype(np.uint8)[GREY])
    lzw = pil(GREY, "TIFF", compression="tiff_lzw", tiffinfo={270: "ImageJ=1.54f\n"})
    assert_pixels(retagged(lzw, PhotometricInterpretation=0), GREY)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_grey_image_of_imagej_that_is_shown_inverted_is_taken_by_its_values(dtype):
    pixels = GREY.astype(dtype)
    assert_pixels(tiff(pixels, photometric="miniswhite", metadata=None, description="ImageJ=1.54f\n"), pixels)
    assert_pixels(tiff(pixels, photometric="miniswhite", metadata=None), ~pixels)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 12, 16])
def test_palettes_of_any_depth(bits):
    indices = (np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % (1 << bits)).astype(np.uint16)
    colours = np.random.default_rng(bits).integers(0, 256, (1 << bits, 3)).astype(np.uint16)
    numbers = (colours.T.ravel() * 257).tolist()
    data = tiff_of_bits(indices, bits, t262=(SHORT, [3]), t320=(SHORT, numbers))
    assert_pixels(data, colours.astype(np.uint8)[indices])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("pixels", [GREY, RGB], ids=["grey", "rgb"])
def test_float_tiff_is_spread_over_sixteen_bits(dtype, pixels):
    found = decode(tiff((pixels.astype(dtype) - 40) / 7)).pixels
    low, high = int(pixels.min()), int(pixels.max())
    assert found.dtype == np.uint16
    assert np.array_equal(found, np.rint((pixels.astype(np.float64) - low) * 65535 / (high - low)))


def test_float_tiff_of_one_value_is_black():
    assert_pixels(tiff(np.full((5, 4), 3.5, np.float32)), np.zeros((5, 4), np.uint16))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_float_tiff_with_what_is_no_number_is_refused(value):
    pixels = GREY.astype(np.float32)
    pixels[3, 4] = pixels[5, 6] = value
    with pytest.raises(ImageError, match="has 2 NaN or infinite pixel values"):
        decode(tiff(pixels))


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.uint32, np.int64, np.uint64])
def test_integers_of_other_types(dtype):
    """Those that fit keep their values; negative ones are spread over 16 bits."""
    pixels = (GREY >> 1).astype(dtype)
    assert_pixels(tiff(pixels), pixels.astype(np.uint16))
    if np.issubdtype(dtype, np.signedinteger):
        mapped = decode(tiff(-pixels)).pixels
        assert mapped.dtype == np.uint16
        assert (mapped.min(), mapped.max()) == (0, 65535)


@pytest.mark.parametrize(
    ("options", "size_um"),
    [
        ({"ome": True, "metadata": {"axes": "YX", "PhysicalSizeX": 0.25, "PhysicalSizeXUnit": "µm"}}, 0.25),
        ({"ome": True, "metadata": {"axes": "YX", "PhysicalSizeX": 250, "PhysicalSizeXUnit": "nm"}}, 0.25),
        ({"ome": True, "metadata": {"axes": "YX", "PhysicalSizeX": 0.25}}, 0.25),
        ({"ome": True, "metadata": {"axes": "YX", "PhysicalSizeX": 0.25, "PhysicalSizeXUnit": "pixel"}}, None),
        ({"ome": True, "metadata": {"axes": "YX", "PhysicalSizeX": 3.25e-7}}, None),  # metres taken for micrometres
        ({"ome": True, "metadata": {"axes": "YX", "PhysicalSizeX": 1e160}}, None),
        ({"ome": True, "metadata": {"axes": "YX"}}, None),
        ({"imagej": True, "resolution": (4, 4), "metadata": {"unit": "um"}}, 0.25),
        ({"imagej": True, "resolution": (4, 4), "metadata": {"unit": "micron"}}, 0.25),
        ({"imagej": True, "resolution": (4, 4), "metadata": {"unit": "microns"}}, 0.25),
        ({"imagej": True, "resolution": (4, 2), "metadata": {"unit": "um"}}, None),  # not square
        ({"ome": True, "metadata": {"axes": "YX", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.251}}, 0.25),
        ({"ome": True, "metadata": {"axes": "YX", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.5}}, None),
        ({"imagej": True, "resolution": (4, 4), "metadata": {"unit": "\\u00B5m"}}, 0.25),
        ({"imagej": True, "resolution": (4, 4), "metadata": {"unit": "pixel"}}, None),
        ({"imagej": True, "resolution": (0, 0), "metadata": {"unit": "um"}}, None),
        ({"imagej": True}, None),
        ({"resolution": (40_000, 40_000), "resolutionunit": "CENTIMETER"}, 0.25),
        ({"resolution": (28.35, 28.35), "resolutionunit": "CENTIMETER"}, None),  # 72 per inch: a printer's
        ({"resolution": (300, 300), "resolutionunit": "INCH"}, None),
        ({"resolution": (300, 300), "resolutionunit": "NONE"}, None),
        ({}, None),
    ],
    ids=str,
)
def test_pixel_size(options, size_um):
    found = decode(tiff(GREY, **options)).pixel_size_um
    assert found == (None if size_um is None else pytest.approx(size_um))


def test_pixel_size_of_png_and_jpeg_is_unknown():
    assert decode(pil(GREY, "PNG", dpi=(300, 300))).pixel_size_um is None
    assert decode(pil(GREY, "JPEG", dpi=(300, 300))).pixel_size_um is None


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (3, 5), (17, 1000)])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg"])
def test_sizes(suffix, shape):
    pixels = np.full(shape, 77, np.uint8)
    assert_pixels(opencv(suffix, pixels), pixels)


WHOLE = {
    "png": pil(RGB, "PNG"),
    "palette.png": pil(RGB, "PNG", "P"),
    "16.png": opencv(".png", sixteen(GREY)),
    "jpg": pil(RGB, "JPEG"),
    "progressive.jpg": pil(RGB, "JPEG", progressive=True),
    "restart.jpg": pil(RGB, "JPEG", restart_marker_rows=1),
    "tif": tiff(RGB),
    "deflate.tif": tiff(RGB, compression="zlib"),
    "opencv.tif": opencv(".tif", RGB),
    "lzw.tif": pil(GREY, "TIFF", compression="tiff_lzw"),
    "tiles.tif": tiff(GREY, tile=(16, 16)),
    "ome.tif": tiff(GREY, ome=True, metadata={"axes": "YX", "PhysicalSizeX": 0.25}),
    "imagej.tif": tiff(GREY, imagej=True, resolution=(4, 4), metadata={"unit": "um"}),
    "big.tif": tiff(sixteen(GREY), bigtiff=True),
    "float.tif": tiff(GREY.astype(np.float32)),
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_truncated_file_is_never_an_image(name, capfd):
    data = WHOLE[name]
    decode(data)
    lengths = {*range(64), *range(64, len(data), max(len(data) // 100, 1)), *range(len(data) - 64, len(data))}
    for length in sorted(lengths):
        with pytest.raises(ImageError):
            decode(data[:length])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kept", [1000, 2], ids=["a hole", "cut short, with an end"])
def test_a_jpeg_whose_rest_the_decoder_makes_up_is_refused(kept, capfd):
    data = pil(smooth(2, 200, 300), "JPEG", quality=95)
    damaged = data[: len(data) // 2] + data[-kept:]
    with pytest.raises(ImageError, match="is a damaged JPEG, part of its data is missing"):
        decode(damaged)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("more", [lambda d: d + b"\0" * 9, lambda d: d[:-2] + b"xx" + d[-2:]], ids=["after", "before"])
def test_bytes_about_the_end_of_a_jpeg_that_cameras_leave_do_no_harm(more):
    data = pil(smooth(2, 200, 300), "JPEG", quality=95)
    assert np.array_equal(decode(more(data)).pixels, decode(data).pixels)


def test_stray_bytes_before_the_markers_of_a_jpeg_do_no_harm(capfd):
    """As some webcams leave; libjpeg says so on standard error, and decodes."""
    data = pil(smooth(2, 200, 300), "JPEG", quality=95, progressive=True)
    expected = decode(data).pixels
    ends, at = [], 2
    while data[at + 1] != 0xDA:
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        ends.append(at)
    for end in ends:
        assert np.array_equal(decode(data[:end] + b"\0\1\xff\0" + data[end:]).pixels, expected)
        assert np.array_equal(decode(data[:end] + b"\xff" * 9 + data[end:]).pixels, expected)
    spoilt = data[: ends[0]] + bytes(3) + data[ends[0] :]
    for length in range(ends[-1], len(spoilt) - 2, len(spoilt) // 50):
        with pytest.raises(ImageError, match=r"is a (truncated|damaged) JPEG"):
            decode(spoilt[:length])
    with pytest.raises(ImageError, match="is a damaged JPEG"):
        decode(data[: ends[0]] + bytes(100_000) + data[ends[0] :])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("at", "value", "words"),
    [
        (1, 0xC3, "is a lossless JPEG, which few programs read: save it as PNG or TIFF"),
        (1, 0xC5, "is a hierarchical JPEG"),
        (4, 12, "is a JPEG of 12 bits"),
        (9, 2, "has 2 channels"),
        (9, 4, "has CMYK colours"),
    ],
)
def test_a_jpeg_of_a_kind_that_is_not_read_is_not_called_damaged(at, value, words):
    data = bytearray(pil(GREY, "JPEG"))
    data[data.index(b"\xff\xc0") + at] = value
    with pytest.raises(ImageError, match=words):
        decode(bytes(data))


def test_a_truncated_jpeg_with_a_thumbnail_is_not_taken_for_whole():
    thumbnail = pil(RGB, "JPEG")
    header = b"Exif\0\0" + thumbnail
    exif = b"\xff\xe1" + struct.pack(">H", len(header) + 2) + header
    body = pil(smooth(2, 200, 300), "JPEG", quality=95)
    data = body[:2] + exif + body[2:]
    assert decode(data).shape == (200, 300)
    for length in range(len(exif) + 1000, len(data) - 1, len(data) // 97):
        with pytest.raises(ImageError, match="is a truncated JPEG"):
            decode(data[:length])


@pytest.mark.parametrize("name", WHOLE)
def test_damage_gives_an_image_or_an_image_error_and_prints_nothing(name, capfd):
    data = WHOLE[name]
    rng = np.random.default_rng(7)
    for _ in range(300):
        damaged = bytearray(data)
        reach = len(data) if rng.random() < 0.5 else min(len(data), 400)  # the header as often as all
        for _ in range(rng.integers(1, 4)):
            at = int(rng.integers(min(reach, len(damaged))))
            match rng.integers(4):
                case 0:
                    damaged[at] ^= 1 << int(rng.integers(8))
                case 1:
                    damaged[at] = int(rng.integers(256))
                case 2:
                    damaged[at : at + 4] = b"\xff" * 4
                case 3:
                    del damaged[at : at + int(rng.integers(1, 20))]
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            found = outcome(bytes(damaged))
        if isinstance(found, str):
            assert found
            assert "\n" not in found
            assert " at 0x" not in found  # an object in memory is no reason
        else:
            assert found.dtype in (np.uint8, np.uint16)
            assert found.ndim == 2 or found.shape[2:] == (3,)
        assert [str(w.message) for w in warned] == []
    assert capfd.readouterr() == ("", "")


HEADER_FAULTS = "is a damaged PNG (its header is wrong)", "is a damaged PNG (Truncated", "is a truncated PNG"


@pytest.mark.parametrize("name", ["png", "palette.png", "16.png", "deflate.tif"])
def test_encodings_with_checksums_show_every_change_of_their_pixels(name):
    data = WHOLE[name]
    good = decode(data).pixels
    for at in range(400, len(data) - 40, 41):
        damaged = bytearray(data)
        damaged[at] ^= 0x10
        found = outcome(bytes(damaged))
        if name.endswith("png"):
            assert found.startswith(("is a damaged PNG (a checksum is wrong)", *HEADER_FAULTS))
        else:
            assert isinstance(found, str) or np.array_equal(found, good)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not a PNG, JPEG or TIFF"),
        (b"this is text\n" * 20, "not a PNG, JPEG or TIFF"),
        (pil(RGB, "GIF"), "is a GIF image: save it as PNG or TIFF"),
        (pil(RGB, "BMP"), "is a BMP image: save it as PNG or TIFF"),
        (b"BMW is a kind of car, this is text", "not a PNG, JPEG or TIFF"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "is a WebP image: save it"),
        (b"\0\0\0\x18ftypheic" + bytes(100), "is a HEIC image: save it"),
        (b"\0\0\0\x18ftypisom" + bytes(100), "is a video: for its frames use 'cellseg-device camera --source'"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "is a JPEG 2000 image"),
        (b"ZISRAWFILE" + bytes(100), "is a Zeiss CZI file: export it as TIFF"),
        (b"\xda\xce\xbe\n" + bytes(100), "is a Nikon ND2 file: export it"),
        (b"p\0\0\0\x10\0\0\0*" + bytes(100), "is a Leica LIF file: export it"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(100), "is an Olympus OIB or Zeiss ZVI file"),
        (bytes(128) + b"DICM" + bytes(100), "is a DICOM file: export it as PNG or TIFF"),
        (b"PK\3\4" + bytes(100), "is a ZIP file: unpack it"),
        (tiff(np.stack([GREY] * 3), photometric="minisblack"), "holds 3 pages"),
        (tiff(np.stack([GREY] * 2), ome=True, photometric="minisblack", metadata={"axes": "CYX"}), "holds 2 pages"),
        (tiff(np.dstack([GREY] * 5), photometric="minisblack", planarconfig="contig"), "has 5 channels"),
        (tiff(np.dstack([GREY] * 4), photometric="minisblack", planarconfig="contig"), "has 4 channels"),
        (tiff(np.stack([GREY] * 2), photometric="minisblack", planarconfig="separate"), "has 2 channels"),
        (tiff(np.stack([GREY] * 3), imagej=True, truncate=True, photometric="minisblack"), "holds 3 pages"),
        (pil(RGB, "JPEG", "CMYK"), "has CMYK colours"),
        (pil(RGB, "TIFF", "CMYK"), "has CMYK colours"),
        (pil(RGB, "TIFF", "LAB"), "has CIELAB colours"),
        (tiff(np.zeros((4, 4), np.complex64)), "has 64-bit complex pixels"),
        (tiff_of_bits(GREY, 24), "has 24-bit pixels: save it as 8- or 16-bit"),
        (tiff_of_bits(GREY >> 4, 4, t339=(SHORT, [2])), "has 4-bit signed pixels"),
        (tiff_of_bits(RGB >> 4, 4, t258=(SHORT, [5, 6, 5]), t262=(SHORT, [2])), "has channels of 5, 6, 5 bits"),
        (tiff_of_bits(RGB, 8, t262=(SHORT, [3]), t320=(SHORT, [0] * 768)), "has a palette of 8 bits for 3 channels"),
        (retagged(tiff(GREY.astype(np.int16)), Compression=5), "has 16-bit signed pixels in an encoding"),
        (retagged(tiff(GREY), PhotometricInterpretation=32803), "has a sensor's raw colours"),
        (tiff_of_bits(GREY, 8, t259=(SHORT, [8]), t317=(SHORT, [3])), r"is compressed with a predictor \(3\)"),
        (retagged(tiff(GREY), PhotometricInterpretation=12345), r"has unknown \(12345\) colours"),
        (retagged(tiff(GREY), Compression=12345), r"is compressed with an unknown method \(12345\)"),
        (tiff_of_bits(GREY, 8, t262=(SHORT, [1, 1])), r"is a damaged TIFF \(its header makes no sense\)"),
        (b"II*\0\0\0\0\0", "is a TIFF that holds no page, as one that was not finished"),
        (png_of_header_alone(10, 10), "is damaged"),
        (png_of_header_alone(0, 10), "is a damaged PNG|has a size of"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_refused_says_why(data, reason, capfd):
    with pytest.raises(ImageError, match=reason):
        decode(data)
    assert capfd.readouterr() == ("", "")


def test_the_size_limit_is_drawn_from_the_header_before_decoding(monkeypatch):
    monkeypatch.delattr(cv2, "imdecode")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ImageError, match=r"is 100000×100000 pixels, over the limit of 12000×12000"):
        decode(png_of_header_alone(100_000, 100_000))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 8_000  # kB


@pytest.mark.parametrize("shape", [(1, MAX_SIDE_PX + 1), (MAX_SIDE_PX + 1, 1)])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg"])
def test_one_pixel_over_the_limit_is_refused_and_the_limit_is_not(suffix, shape):
    with pytest.raises(ImageError, match="over the limit"):
        decode(opencv(suffix, np.zeros(shape, np.uint8)))
    at_limit = tuple(min(n, MAX_SIDE_PX) for n in shape)
    assert decode(opencv(suffix, np.zeros(at_limit, np.uint8))).shape == at_limit


def test_read_says_what_a_path_is_instead_of_a_file(tmp_path):
    (tmp_path / "empty.png").touch()
    (tmp_path / "folder.tif").mkdir()
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    for name, reason in {
        "empty.png": "is empty",
        "folder.tif": "is a folder",
        "loop.png": "cannot be opened",
        "none.png": "no such file",
        "n" * 300 + ".png": "cannot be opened",
        "nul\0.png": "cannot be opened",
        "empty.png/a.png": "cannot be opened",
    }.items():
        with pytest.raises(ImageError, match=reason):
            read(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        *[("a.png", True), ("a.TIFF", True), ("a.b.Jpeg", True), ("a.jfif", True), ("a.ome.btf", True)],
        *[("a.LSM", True), (".a.png", False), ("png", False), ("a.png.part", False), ("a.bmp", False)],
    ],
)
def test_names_of_images(name, taken):
    assert is_image_name(name) == taken


@pytest.mark.parametrize(
    ("name", "is_other"),
    [("a.BMP", True), ("a.czi", True), (".a.czi", False), ("czi", False), ("a.png", False), ("notes.txt", False)],
)
def test_names_of_images_that_are_not_read(name, is_other):
    assert is_other_image_name(name) == is_other
    assert not SUFFIXES & OTHER_SUFFIXES
