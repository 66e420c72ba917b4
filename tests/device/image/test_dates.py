"""When an image was taken: by EXIF, OME-XML, Micro-Manager, TIFF and PNG, and not by what cannot be believed."""

import io
import json
import struct
import zlib

import numpy as np
import PIL.Image
import pytest
import tifffile

from cellseg_device.image import dates, decode
from cellseg_device.image.dates import Captured
from cellseg_device.image.sandbox import Decoder

PIXELS = np.arange(256, dtype=np.uint8).reshape(16, 16)
DATE_TIME, ORIGINAL, DIGITIZED, OFFSET, OFFSET_ORIGINAL, SUBSEC_ORIGINAL = 306, 36867, 36868, 36880, 36881, 37521


def exif(first=None, second=None) -> PIL.Image.Exif:
    """An EXIF block with these tags in its first directory, and in that of the camera."""
    block = PIL.Image.Exif()
    for tag, value in {305: "camera", **(first or {})}.items():
        block[tag] = value
    for tag, value in (second or {}).items():
        block.get_ifd(34665)[tag] = value
    return block


def saved(kind: str, block: PIL.Image.Exif) -> bytes:
    with io.BytesIO() as file:
        PIL.Image.fromarray(PIXELS).save(file, kind, exif=block.tobytes())
        return file.getvalue()


def tiff(**options) -> bytes:
    with io.BytesIO() as file:
        tifffile.imwrite(file, PIXELS, **({"metadata": None} | options))
        return file.getvalue()


def ome(date: str, name="AcquisitionDate", prefix="") -> bytes:
    text = f'<?xml version="1.0"?><{prefix}OME><{prefix}Image ID="Image:0"><{prefix}{name}>{date}</{prefix}{name}>'
    return (text + f'<{prefix}Pixels SizeX="16" SizeY="16"/></{prefix}Image></{prefix}OME>').encode()


def micro_manager(**values) -> list[tuple[int, str, int, str, bool]]:
    text = json.dumps({"PixelSizeUm": 0.325, **values})
    return [(51123, "s", len(text) + 1, text, True)]


def with_chunk(kind: bytes, value: bytes) -> bytes:
    """A PNG with one more chunk."""
    data = saved("PNG", exif())
    chunk = kind + value
    at = data.index(b"IDAT") - 4
    return data[:at] + struct.pack(">I", len(value)) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[at:]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_the_time_of_the_exposure_is_as_the_camera_wrote_it(kind):
    own = {ORIGINAL: "2021:03:04 05:06:07"}
    assert decode.decode(saved(kind, exif({}, own))).captured == Captured("2021-03-04T05:06:07", "EXIF")
    finer = own | {OFFSET_ORIGINAL: "+01:00", SUBSEC_ORIGINAL: "250"}
    block = exif({DATE_TIME: "2022:01:01 00:00:00"}, {DIGITIZED: "2021:12:12 01:02:03"} | finer)
    assert decode.decode(saved(kind, block)).captured == Captured("2021-03-04T05:06:07.250+01:00", "EXIF")


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_the_time_of_the_last_change_will_do_where_there_is_no_other(kind):
    block = exif({DATE_TIME: "2022:01:01 00:00:00"}, {OFFSET: "-07:00"})
    assert decode.decode(saved(kind, block)).captured == Captured("2022-01-01T00:00:00-07:00", "EXIF")
    block = exif({DATE_TIME: "2022:01:01 00:00:00"}, {DIGITIZED: "2021:12:12 01:02:03"})
    assert decode.decode(saved(kind, block)).captured == Captured("2021-12-12T01:02:03", "EXIF")


def test_a_tiff_says_it_in_a_tag_of_its_own():
    changed = "2021:03:04 05:06:07"
    assert decode.decode(tiff(datetime=changed)).captured == Captured("2021-03-04T05:06:07", "TIFF")
    for options in ({"bigtiff": True}, {"byteorder": ">"}, {"bigtiff": True, "byteorder": ">"}):
        assert decode.decode(tiff(datetime=changed, **options)).captured == Captured("2021-03-04T05:06:07", "TIFF")


@pytest.mark.parametrize(
    ("written", "at"),
    [
        ("2021-03-04T05:06:07", "2021-03-04T05:06:07"),
        ("2021-03-04T05:06:07.125Z", "2021-03-04T05:06:07.125Z"),
        ("2021-03-04T05:06:07+01:00", "2021-03-04T05:06:07+01:00"),
    ],
)
def test_the_acquisition_in_ome_comes_before_the_saving(written, at):
    for description in (ome(written), ome(written, "CreationDate"), ome(written, prefix="ome:")):
        data = tiff(description=description, datetime="2025:01:01 00:00:00")
        assert decode.decode(data).captured == Captured(at, "OME")


def test_micro_manager_says_it_in_its_tag():
    data = tiff(extratags=micro_manager(ReceivedTime="2021-03-04 05:06:07.321 +0100", Time="never"))
    assert decode.decode(data).captured == Captured("2021-03-04T05:06:07.321+01:00", "Micro-Manager")
    data = tiff(extratags=micro_manager(Time="2014-10-01 14:07:20 -0700"), datetime="2025:01:01 00:00:00")
    assert decode.decode(data).captured == Captured("2014-10-01T14:07:20-07:00", "Micro-Manager")


def test_a_png_says_when_it_was_changed_in_utc():
    data = with_chunk(b"tIME", struct.pack(">H5B", 2021, 3, 4, 5, 6, 7))
    assert decode.decode(data).captured == Captured("2021-03-04T05:06:07Z", "PNG")


@pytest.mark.parametrize(
    "text",
    [
        "0000:00:00 00:00:00",
        "1970:01:01 00:00:00",
        "1904:01:01 00:00:00",
        "1980:01:01 00:00:00",
        "9999:12:31 23:59:59",
        "2021:13:04 05:06:07",
        "2021:02:30 05:06:07",
        "2021:03:04 25:06:07",
        "    :  :     :  :  ",
        "2021:03:04",
        "=cmd|' /C calc'!A0",
        "2021:03:04 05:06:07\n2022",
        "٢٠٢١:03:04 05:06:07",
    ],
)
def test_a_time_that_cannot_be_believed_counts_as_none(text):
    assert dates.as_iso(text) is None
    good = {DATE_TIME: "2022:01:01 00:00:00"}
    if text.isascii():
        for kind in ("JPEG", "TIFF"):
            assert decode.decode(saved(kind, exif({}, {ORIGINAL: text}))).captured is None
            assert decode.decode(saved(kind, exif(good, {ORIGINAL: text}))).captured.at == "2022-01-01T00:00:00"
    assert decode.decode(tiff(description=ome(text).replace(b"\n", b" "), metadata=None)).captured is None


@pytest.mark.parametrize(
    ("text", "fraction", "at"),
    [
        ("2021:03:04  5:06:07", "25", "2021-03-04T05:06:07.25"),
        ("2021: 3: 4  5: 6: 7", "", "2021-03-04T05:06:07"),
        ("2021:03:04 05:06:07", "123456789123", "2021-03-04T05:06:07.123456789"),
        ("2021:03:04 05:06:07", "1" * 100_000, "2021-03-04T05:06:07.111111111"),
    ],
)
def test_a_time_with_spaces_for_zeros_or_with_many_digits_is_read(text, fraction, at):
    block = exif({}, {ORIGINAL: text, SUBSEC_ORIGINAL: fraction})
    data = saved("TIFF" if len(fraction) > 1000 else "JPEG", block)
    assert decode.decode(data).captured == Captured(at, "EXIF")
    assert dates.as_iso(at) == at


def test_a_wrong_zone_or_fraction_is_left_out():
    block = exif({}, {ORIGINAL: "2021:03:04 05:06:07", OFFSET_ORIGINAL: "Paris", SUBSEC_ORIGINAL: "x"})
    assert decode.decode(saved("JPEG", block)).captured.at == "2021-03-04T05:06:07"
    assert dates.as_iso("2021-03-04 05:06:07 +99:00") is None


def test_bytes_before_a_marker_hide_no_date():
    data = saved("JPEG", exif({}, {ORIGINAL: "2021:03:04 05:06:07"}))
    at = data.index(b"\xff\xe1")
    for more in (b"\0\0\0", b"\xff\xff"):
        assert dates.captured(data[:at] + more + data[at:]).at == "2021-03-04T05:06:07"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_no_damage_raises_an_error(kind):
    block = exif({DATE_TIME: "2022:01:01 00:00:00"}, {ORIGINAL: "2021:03:04 05:06:07"})
    data = saved(kind, block)
    rng = np.random.default_rng(0)
    for length in range(len(data)):
        dates.captured(data[:length])
    for _ in range(3000):
        changed = bytearray(data)
        for at in rng.integers(0, len(data), 3):
            changed[at] = rng.integers(0, 256)
        taken = dates.captured(bytes(changed))
        assert taken is None or dates.as_iso(taken.at) == taken.at


def test_hostile_texts_take_no_time():
    """Each would take minutes if a pattern went back over what it has read."""
    for text in (b"<AcquisitionDate>" + b" " * 4_000_000, b"<a:" * 1_000_000, b"<" + b"a" * 4_000_000):
        assert dates.captured(tiff(description=b"<OME " + text + b"OME>")) is None
    assert dates.as_iso("2021:03:04 05:06:07." + "1" * 4_000_000 + "x") is None
    long = b'"Time"' + b" " * 4_000_000
    assert dates.captured(tiff(extratags=[(51123, "s", len(long), long, True)])) is None


def test_pieces_without_end_are_not_counted_through(count_calls):
    start, end = dates._PNG_START, b"\0\0\0\0IEND\0\0\0\0"
    few, many = (start + b"\0\0\0\0teXt\0\0\0\0" * number + end for number in (1 << 18, 1 << 20))
    assert count_calls(dates.captured, many) == count_calls(dates.captured, few)


def test_the_time_comes_from_the_other_process(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(saved("JPEG", exif({}, {ORIGINAL: "2021:03:04 05:06:07"})))
    with Decoder() as decoder:
        assert decoder.decode(path)[1].captured == Captured("2021-03-04T05:06:07", "EXIF")


@pytest.mark.parametrize(
    "answer",
    [[], "x", 5, ["2021-03-04T05:06:07"], ["2021:03:04 05:06:07", "EXIF"], ["2021-03-04T05:06:07", "=1"], [1, 2]],
)
def test_what_is_no_time_is_not_received(answer):
    with pytest.raises(ValueError, match="no time"):
        dates.received(answer)
    for taken in (None, Captured("2021-03-04T05:06:07.5+01:00", "OME")):
        assert dates.received(dates.described(taken)) == taken
