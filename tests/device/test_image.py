"""What becomes an image, and what is refused; whatever the bytes are, nothing else is raised or printed."""

import io
import resource
import struct
import time
import warnings
import zlib

import cv2
import numpy as np
import PIL.Image
import pytest
import tifffile

from cellseg_device import image
from cellseg_device.errors import ImageError
from cellseg_device.image import decode

HEIGHT, WIDTH = 37, 53


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
    picture = PIL.Image.fromarray(pixels)
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


@pytest.mark.parametrize("photometric", [0, 1])
def test_packed_twelve_bits_keep_their_values(photometric):
    values = np.random.default_rng(0).integers(0, 1 << 12, (HEIGHT, 60)).astype(np.uint32)
    pairs = values[:, ::2] << 12 | values[:, 1::2]
    packed = np.stack([pairs >> 16, pairs >> 8 & 255, pairs & 255], axis=-1).astype(np.uint8).reshape(HEIGHT, 90)
    data = retagged(tiff(packed), ImageWidth=60, BitsPerSample=12, PhotometricInterpretation=photometric)
    assert_pixels(data, (values if photometric else 4095 - values).astype(np.uint16))


def test_a_tiff_with_jpeg_inside():
    found = decode(pil(RGB, "TIFF", compression="jpeg", quality=100)).pixels
    assert np.abs(found.astype(int) - RGB).max() <= 6


@pytest.mark.parametrize("depth", [np.asarray, sixteen], ids=["8-bit", "16-bit"])
def test_white_is_zero_is_turned_round(depth):
    assert_pixels(tiff(~depth(GREY), photometric="miniswhite"), depth(GREY))


def test_a_mask_of_imagej_is_taken_by_its_values():
    """ImageJ shows what it has selected in black, by a lookup table that it stores as MinIsWhite."""
    plain = tiff(GREY, photometric="miniswhite", metadata=None)
    of_imagej = tiff(GREY, photometric="miniswhite", metadata=None, description="ImageJ=1.54f\n")
    for data, is_mask, expected in (
        (plain, False, ~GREY),
        (plain, True, ~GREY),
        (of_imagej, False, ~GREY),
        (of_imagej, True, GREY),
    ):
        assert np.array_equal(decode(data, is_mask=is_mask).pixels, expected)


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
    with pytest.raises(ImageError, match="is a damaged JPEG, a part of its data is missing"):
        decode(damaged)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("more", [lambda d: d + b"\0" * 9, lambda d: d[:-2] + b"xx" + d[-2:]], ids=["after", "before"])
def test_bytes_about_the_end_of_a_jpeg_that_cameras_leave_do_no_harm(more):
    data = pil(smooth(2, 200, 300), "JPEG", quality=95)
    assert np.array_equal(decode(more(data)).pixels, decode(data).pixels)


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
        (b"GIF89a" + bytes(40), "not a PNG, JPEG or TIFF"),
        (tiff(np.stack([GREY] * 3), photometric="minisblack"), "holds 3 pages"),
        (tiff(np.stack([GREY] * 2), ome=True, photometric="minisblack", metadata={"axes": "CYX"}), "holds 2 pages"),
        (tiff(np.dstack([GREY] * 5), photometric="minisblack", planarconfig="contig"), "has 5 channels"),
        (tiff(np.dstack([GREY] * 4), photometric="minisblack", planarconfig="contig"), "has 4 channels"),
        (tiff(np.stack([GREY] * 2), photometric="minisblack", planarconfig="separate"), "has 2 channels"),
        (tiff(np.stack([GREY] * 3), imagej=True, truncate=True, photometric="minisblack"), "holds 3 pages"),
        (pil(RGB, "JPEG", "CMYK"), "has CMYK colours"),
        (pil(RGB, "TIFF", "CMYK"), "has CMYK colours"),
        (pil(RGB, "TIFF", "LAB"), "has CIELAB colours"),
        (tiff(GREY.astype(np.int16)), "has pixels of type int16"),
        (tiff(GREY.astype(np.uint32)), "has pixels of type uint32"),
        (tiff(GREY.astype(np.float16)), "has pixels of type float16"),
        (tiff(np.zeros((4, 4), np.complex64)), "has pixels of type complex64"),
        (png_of_header_alone(10, 10), "is damaged"),
        (png_of_header_alone(0, 10), "is a damaged PNG|has a size of"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_refused_says_why(data, reason, capfd):
    with pytest.raises(ImageError, match=reason):
        decode(data)
    assert capfd.readouterr() == ("", "")


def test_the_size_limit_is_drawn_from_the_header_before_decoding():
    memory, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(ImageError, match=r"is 100000×100000 pixels, over the limit of 12000×12000"):
        decode(png_of_header_alone(100_000, 100_000))
    assert time.process_time() - start < 0.1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 8_000  # kB


@pytest.mark.parametrize("shape", [(1, image.MAX_SIDE_PX + 1), (image.MAX_SIDE_PX + 1, 1)])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg"])
def test_one_pixel_over_the_limit_is_refused_and_the_limit_is_not(suffix, shape):
    with pytest.raises(ImageError, match="over the limit"):
        decode(opencv(suffix, np.zeros(shape, np.uint8)))
    at_limit = tuple(min(n, image.MAX_SIDE_PX) for n in shape)
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
            image.read(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "taken"),
    [("a.png", True), ("a.TIFF", True), ("a.b.Jpeg", True), (".a.png", False), ("png", False), ("a.png.part", False)],
)
def test_names_of_images(name, taken):
    assert image.is_image_name(name) == taken
