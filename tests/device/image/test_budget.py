"""An image that does not fit into the memory is refused by its header, whatever its file is like."""

import io

import cv2
import numpy as np
import PIL.Image
import pytest
import tifffile

from cellseg_device.errors import TRIED_AGAIN, ImageError
from cellseg_device.image import budget as budgets
from cellseg_device.image import decode as decoding
from cellseg_device.image.budget import Budget
from cellseg_device.image.decode import decode
from cellseg_device.image.sandbox import Decoder

HEIGHT, WIDTH = 30, 50
PIXELS = HEIGHT * WIDTH


def grey(dtype=np.uint8):
    return np.arange(PIXELS).reshape(HEIGHT, WIDTH).astype(dtype)


def rgb(channels=3, dtype=np.uint8):
    return np.dstack([grey(dtype)] * channels)


def png(pixels):
    return bytes(cv2.imencode(".png", pixels)[1])


def pillow(pixels, mode=None, form="png", **options):
    file = io.BytesIO()
    image = PIL.Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(file, form, **options)
    return file.getvalue()


def tiff(pixels, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **options)
    return file.getvalue()


# The file, the bytes of a pixel in it, and in the image
FILES = {
    "grey.png": (png(grey()), 1, 1),
    "grey16.png": (png(grey(np.uint16)), 2, 2),
    "rgb.png": (png(rgb()), 3, 3),
    "rgba.png": (png(rgb(4)), 4, 3),
    "rgb16.png": (png(rgb(3, np.uint16)), 6, 6),
    "grey with alpha.png": (pillow(grey(), "LA"), 2, 1),
    "palette.png": (pillow(rgb(), "P"), 3, 3),
    "transparent colour.png": (pillow(rgb(), transparency=(1, 1, 1)), 4, 3),
    "bits.png": (pillow(grey() > 7), 1, 1),
    "grey.jpg": (pillow(grey(), form="jpeg"), 1, 1),
    "rgb.jpg": (pillow(rgb(), form="jpeg"), 3, 3),
    "grey.tif": (tiff(grey()), 1, 1),
    "grey16.tif": (tiff(grey(np.uint16)), 2, 2),
    "rgb.tif": (tiff(rgb(), photometric="rgb"), 3, 3),
    "rgba.tif": (tiff(rgb(4), photometric="rgb", extrasamples=["unassalpha"]), 4, 3),
    "float32.tif": (tiff(grey(np.float32)), 4, 2),
    "float64 rgb.tif": (tiff(rgb(3, np.float64), photometric="rgb"), 24, 6),
    "int8.tif": (tiff(grey(np.int8)), 2, 2),
    "int16.tif": (tiff(grey(np.int16)), 3, 2),
    "int64.tif": (tiff(grey(np.int64)), 8, 2),
    "table of ImageJ.tif": (
        tiff(
            grey(), photometric="palette", colormap=np.zeros((3, 256), np.uint16), metadata=None, description="ImageJ="
        ),
        1,
        1,
    ),
    "palette.tif": (pillow(rgb(), "P", "tiff"), 3, 3),
}


@pytest.mark.parametrize("name", FILES)
def test_the_header_tells_what_decoding_takes(name):
    data, stored, decoded = FILES[name]
    needed = budgets.decoding_bytes(PIXELS, stored, len(data))
    image = decode(data, budget=Budget(needed))
    assert image.pixels.nbytes == PIXELS * decoded
    with pytest.raises(ImageError, match="needs more memory than there is") as caught:
        decode(data, budget=Budget(needed - 1))
    assert caught.value.message.startswith(TRIED_AGAIN)


@pytest.mark.parametrize("name", FILES)
def test_the_header_tells_what_the_steps_after_it_take(name):
    data, _, decoded = FILES[name]
    needed = PIXELS * (decoded + 10_000)
    assert decode(data, budget=Budget(needed, 10_000)).shape == (HEIGHT, WIDTH)
    with pytest.raises(ImageError, match="needs more memory than there is"):
        decode(data, budget=Budget(needed - 1, 10_000))


@pytest.mark.parametrize("budget", [None, Budget(None), Budget(None, 1e9)])
def test_without_a_limit_everything_fits(budget):
    assert decode(FILES["rgb.png"][0], budget=budget).shape == (HEIGHT, WIDTH)


@pytest.mark.parametrize("name", ["rgb16.png", "rgb.jpg", "float64 rgb.tif"])
def test_nothing_is_decoded_of_an_image_that_is_too_large(monkeypatch, name):
    def refuse(*_arguments, **_options):
        raise AssertionError("decoded")

    monkeypatch.setattr(decoding, "decode_with_opencv", refuse)
    monkeypatch.setattr(tifffile.TiffPage, "asarray", refuse)
    with pytest.raises(ImageError, match="needs more memory than there is"):
        decode(FILES[name][0], budget=Budget(1))


def test_the_message_has_both_numbers_which_never_look_alike():
    budgets.check_fits(5e6, 5_000_000)
    with pytest.raises(ImageError) as caught:
        budgets.check_fits(1_234_000_001, 1_234_000_000)
    message = "needs more memory than there is (1,235 MB, and 1,234 MB are free): crop or split it"
    assert caught.value.message == message
    with pytest.raises(ImageError, match=r"\(1 MB, and 0 MB are free\)"):
        budgets.check_fits(1, -5)


@pytest.mark.parametrize("decode_file", ["apart", "here"])
def test_a_decoder_keeps_to_the_budget(monkeypatch, tmp_path, decode_file):
    path = tmp_path / "a.png"
    path.write_bytes(FILES["rgb.png"][0])
    if decode_file == "here":
        monkeypatch.setattr("cellseg_device.image.sandbox.os.memfd_create", None, raising=False)
        monkeypatch.delattr("cellseg_device.image.sandbox.os.memfd_create")
    decoder = Decoder()
    try:
        assert decoder.decode(path, Budget(10**9))[1].shape == (HEIGHT, WIDTH)
        with pytest.raises(ImageError, match=r"needs more memory than there is \(9 MB, and 5 MB are free\): crop"):
            decoder.decode(path, Budget(5_000_000))
        assert decoder.decode(path, None)[1].shape == (HEIGHT, WIDTH)
    finally:
        decoder.close()
