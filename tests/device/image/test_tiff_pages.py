"""Which page of a TIFF is the picture, and which files are stacks: as ImageJ and tifffile have it."""

import io
import json
import struct

import numpy as np
import PIL.Image
import pytest
import tifffile

from cellseg_device.errors import ImageError
from cellseg_device.image.decode import decode

REDUCED, MASK, REDUCED_MASK = 1, 4, 5  # NewSubfileType


@pytest.fixture
def picture(draw_blobs):
    return draw_blobs(96, 128)


def written(*pages, **options):
    """A TIFF of these pages, each an array or (array, NewSubfileType)."""
    data = io.BytesIO()
    with tifffile.TiffWriter(data, **options) as file:
        for page in pages:
            pixels, kind = page if isinstance(page, tuple) else (page, 0)
            file.write(pixels, photometric="minisblack", subfiletype=kind, metadata=None)
    return data.getvalue()


@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("kind", [0, REDUCED])
def test_smaller_copies_after_a_picture_are_passed_over(picture, kind, bigtiff, byteorder):
    copies = [(picture[::step, ::step].copy(), kind) for step in (2, 4, 8)]
    data = written(picture, *copies, bigtiff=bigtiff, byteorder=byteorder)
    assert np.array_equal(decode(data).pixels, picture)
    with tifffile.TiffFile(io.BytesIO(data)) as tif:
        assert np.array_equal(tif.series[0].asarray(), picture)


def test_so_they_are_where_opencv_decodes(picture):
    copy = PIL.Image.fromarray(picture[::2, ::2].copy())
    data = io.BytesIO()
    options = {"save_all": True, "append_images": [copy], "compression": "tiff_lzw"}
    PIL.Image.fromarray(picture).save(data, "TIFF", **options)
    assert np.array_equal(decode(data.getvalue()).pixels, picture)


def test_so_are_a_slide_s_label_and_a_mask_of_the_same_size(picture):
    label, macro = np.zeros((90, 40), np.uint8), np.zeros((40, 120), np.uint8)
    mask = picture > 50
    for others in ([(label, REDUCED), (macro, 9)], [(mask, MASK)], [(mask[::2, ::2].copy(), REDUCED_MASK)]):
        assert np.array_equal(decode(written(picture, *others)).pixels, picture)


def test_a_pyramid_as_ome_tiff_has_it(picture):
    data = io.BytesIO()
    with tifffile.TiffWriter(data, ome=True) as file:
        options = {"photometric": "minisblack", "tile": (32, 32)}
        file.write(picture, subifds=2, metadata={"axes": "YX", "PhysicalSizeX": 0.5}, **options)
        for step in (2, 4):
            file.write(picture[::step, ::step].copy(), subfiletype=REDUCED, metadata=None, **options)
    image = decode(data.getvalue())
    assert np.array_equal(image.pixels, picture)
    assert image.pixel_size_um == 0.5


@pytest.mark.parametrize("kind", [0, REDUCED])
def test_pages_of_one_size_are_a_stack_and_the_message_says_what_to_do(picture, kind):
    words = r"holds 3 pages of one size: save each as a file of its own \(Fiji: File › Save As › Image Sequence\)"
    copy = picture[::2, ::2].copy()
    with pytest.raises(ImageError, match=words):
        decode(written(picture, (copy, REDUCED), (picture, kind), (copy, REDUCED), picture))  # as Zeiss's LSM has it


def test_a_picture_that_comes_after_a_small_one_is_not_counted_by_that(picture):
    thumbnail = picture[::4, ::4].copy()
    words = "begins with a picture of 32×24 pixels, and holds one of 128×96: save the large one as a file of its own"
    for kind in (0, REDUCED):
        with pytest.raises(ImageError, match=words):
            decode(written((thumbnail, kind), picture))
    data = io.BytesIO()
    with tifffile.TiffWriter(data) as file:  # as raw images of cameras are
        file.write(thumbnail, photometric="minisblack", subifds=1, subfiletype=REDUCED, metadata=None)
        file.write(picture, photometric="minisblack", metadata=None)
    with pytest.raises(ImageError, match=words):
        decode(data.getvalue())


def test_a_single_page_that_is_marked_as_reduced_is_the_picture(picture):
    assert np.array_equal(decode(written((picture, REDUCED))).pixels, picture)


@pytest.mark.parametrize("options", [{"imagej": True}, {"metadata": {"axes": "ZYX"}}], ids=["ImageJ", "tifffile"])
def test_a_stack_with_a_single_page_is_a_stack(picture, options):
    data = io.BytesIO()
    tifffile.imwrite(data, np.stack([picture] * 3), photometric="minisblack", truncate=True, **options)
    with tifffile.TiffFile(io.BytesIO(data.getvalue())) as tif:
        assert len(tif.pages) == 1
    with pytest.raises(ImageError, match="holds 3 pages of one size"):
        decode(data.getvalue())


def test_a_stack_of_metamorph_is_a_stack(picture):
    """It has one page, and a tag with six numbers for each plane."""
    for planes in (1, 2):
        numbers = struct.pack(f"<{6 * planes}I", *range(1, 6 * planes + 1))
        data = written(picture)
        with tifffile.TiffFile(io.BytesIO(data)) as tif:
            tag = tif.pages.first.tags["NewSubfileType"]
            entry = struct.pack("<HHII", 33629, 5, planes, len(data))
            place = tag.offset
        changed = data[:place] + entry + data[place + 12 :] + numbers
        if planes == 1:
            assert np.array_equal(decode(changed).pixels, picture)
        else:
            with pytest.raises(ImageError, match="holds 2 pages of one size"):
                decode(changed)


def test_levels_that_lie_outside_the_file_are_passed_over(picture):
    data = bytearray(written(picture))
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as tif:
        place = tif.pages.first.tags["NewSubfileType"].offset
    for kind, number in ((4, 1), (13, 1), (2, 1), (4, 0)):
        data[place : place + 12] = struct.pack("<HHII", 330, kind, number, 0xFFFFFF)
        assert np.array_equal(decode(bytes(data)).pixels, picture)
    data[place : place + 12] = struct.pack("<HHII", 330, 4, 1 << 30, 0xFFFFFF)
    with pytest.raises(ImageError, match="is a truncated TIFF"):
        decode(bytes(data))


# Pixel sizes of programs


def with_tag(picture, code, kind, value, **options):
    data = io.BytesIO()
    tifffile.imwrite(data, picture, metadata=None, extratags=[(code, kind, 0, value, True)], **options)
    return data.getvalue()


@pytest.mark.parametrize(
    ("size", "found"),
    [(0.325, 0.325), ("0.325", 0.325), (0, None), (-1, None), (1e400, None), (None, None), ([1], None)],
)
def test_the_pixel_size_of_micro_manager(picture, size, found):
    text = json.dumps({"PixelSizeUm": size, "Width": 128})
    assert decode(with_tag(picture, 51123, 2, text)).pixel_size_um == found


@pytest.mark.parametrize("text", ["", "no JSON", "[1]", "{}", "[" * 100_000, '{"PixelSizeUm": true}'])
def test_metadata_that_is_none(picture, text):
    image = decode(with_tag(picture, 51123, 2, text))
    assert np.array_equal(image.pixels, picture)
    assert image.pixel_size_um in (None, 1)


def test_what_was_set_later_comes_first(picture):
    """In Fiji one sets the scale of an image from Micro-Manager; what a resolution says may be of any program."""
    text = json.dumps({"PixelSizeUm": 0.325})
    of_imagej = {"description": "ImageJ=1.54f\nunit=micron\n", "resolution": (4, 4), "resolutionunit": "NONE"}
    without_unit = {"description": "ImageJ=1.54f\n", "resolution": (1, 1), "resolutionunit": "NONE"}
    per_centimetre = {"resolution": (10_000, 10_000), "resolutionunit": "CENTIMETER"}
    for options, found in ((of_imagej, 0.25), (without_unit, 0.325), (per_centimetre, 0.325)):
        assert decode(with_tag(picture, 51123, 2, text, **options)).pixel_size_um == found


def test_the_pixel_size_of_zeiss(picture):
    sizes = (0.2e-6, 0.2e-6, 1e-6)
    info = struct.pack("<IIiiiiiiiiddd", 50350412, 72, 128, 96, 1, 1, 1, 1, 0, 0, *sizes)
    data = io.BytesIO()
    with tifffile.TiffWriter(data) as file:
        options = {"photometric": "minisblack", "metadata": None}
        file.write(picture, extratags=[(34412, 1, 0, info, True)], **options)
        file.write(picture[::4, ::4].copy(), subfiletype=REDUCED, **options)
    image = decode(data.getvalue())
    assert np.array_equal(image.pixels, picture)
    assert image.pixel_size_um == pytest.approx(0.2)
