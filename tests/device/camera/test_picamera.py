"""The Raspberry Pi's camera: what is locked, and what a frame means."""

from __future__ import annotations

import dataclasses
import sys
import types

import cv2
import numpy as np
import pytest

from cellseg_device.camera import picamera
from cellseg_device.camera.picamera import PiCamera, to_rgb
from cellseg_device.camera.source import Settings
from cellseg_device.errors import InputError

WARM = Settings(warm_up_s=0)


# What picamera2 does on a sensor with controls, which its virtual camera does not have


class FakePicamera2:
    """A sensor whose automatic drifts with every frame, and which takes what is set three frames later."""

    cameras = 1
    configured = 0
    controls = ("AeEnable", "AwbEnable", "ExposureTime", "AnalogueGain", "ColourGains", "ColourTemperature")
    obeys = True

    def __init__(self, number):
        self.camera_controls = dict.fromkeys(self.controls)
        self.camera_properties = {"Model": "imx477"}
        self.sensor_resolution = (4056, 3040)
        self.frames = 0
        self.set = [(0, {"AeEnable": True, "AwbEnable": True})]
        self.is_closed = False

    @classmethod
    def global_camera_info(cls):
        return [{}] * cls.cameras

    def create_still_configuration(self, main, raw, buffer_count, queue):
        assert raw == {"size": self.sensor_resolution}
        assert not queue
        return {"main": {"size": self.sensor_resolution} | main}

    def configure(self, configuration):
        type(self).configured += 1
        self.configuration = configuration

    def camera_configuration(self):
        return self.configuration

    def set_controls(self, controls):
        assert set(controls) <= set(self.camera_controls)
        self.set.append((self.frames + 3, controls))

    def start(self):
        pass

    def capture_metadata(self, wait):
        self.frames += 1
        state = {
            "ExposureTime": 10_000 + 500 * self.frames,
            "AnalogueGain": 1.0,
            "ColourGains": (1.5, 2.0 + 0.1 * self.frames),
        }
        for since, controls in self.set if self.obeys else []:
            if since <= self.frames:
                state |= controls
        return {name: state[name] for name in ("ExposureTime", "AnalogueGain", "ColourGains") if name in self.controls}

    def close(self):
        self.is_closed = True


@pytest.fixture
def fake(monkeypatch):
    """A module `picamera2` with a class of its own."""
    kind = type("Picamera2", (FakePicamera2,), {})
    module = types.ModuleType("picamera2")
    module.Picamera2 = kind
    monkeypatch.setitem(sys.modules, "picamera2", module)
    return kind


def test_what_the_automatics_found_is_locked_and_waited_for(fake):
    said = []
    camera = PiCamera(0, WARM, 1, said.append)
    assert not said
    locked = camera.settings
    assert (round(locked.exposure_s, 6), locked.gain, locked.awb) == (0.0105, 1.0, (1.5, 2.1))
    sensor = camera._camera
    _, controls = sensor.set[-1]
    assert controls == {
        "AeEnable": False,
        "AwbEnable": False,
        "ExposureTime": 10_500,
        "AnalogueGain": 1.0,
        "ColourGains": (1.5, 2.1),
    }
    assert sensor.capture_metadata(1)["ExposureTime"] == 10_500
    assert sensor.frames >= sensor.set[-1][0] + 5  # not before the frames said so, several times
    assert (fake.configured, camera.description) == (1, "imx477, 4056×3040 BGR888")
    camera.close()
    assert sensor.is_closed


def test_opened_with_what_was_locked_it_is_the_same_again(fake):
    first = PiCamera(0, WARM, 1, pytest.fail)
    second = PiCamera(0, first.settings, 1, pytest.fail)
    assert second.settings == first.settings
    assert second._camera.set[1][1] == {
        "ExposureTime": 10_500,
        "AnalogueGain": 1.0,
        "AeEnable": False,
        "AwbEnable": False,
        "ColourGains": (1.5, 2.1),
    }


def test_a_temperature_is_set_and_the_gains_it_means_are_kept(fake):
    camera = PiCamera(0, dataclasses.replace(WARM, awb=5000, size=(1200, 1600)), 1, pytest.fail)
    assert camera._camera.set[1][1] == {"AwbEnable": False, "ColourTemperature": 5000}
    assert isinstance(camera.settings.awb, tuple)
    assert camera.description.startswith("imx477, 1600×1200")


def test_a_sensor_that_does_not_obey_is_reported(fake):
    fake.obeys = False
    said = []
    PiCamera(0, WARM, 1, said.append)
    assert said == ["the camera does not hold exposure, gain and white balance: counts may drift with the light"]


def test_a_sensor_without_white_balance_is_reported(fake):
    fake.controls = ("AeEnable", "ExposureTime", "AnalogueGain")  # monochrome
    said = []
    camera = PiCamera(0, dataclasses.replace(WARM, awb=(1.0, 1.0)), 1, said.append)
    assert said == ["the camera does not let its white balance be locked: counts may drift with the light"]
    assert camera.settings.awb is None
    assert camera.settings.exposure_s is not None


def test_a_format_that_cannot_be_read_is_refused_and_the_camera_closed(fake, monkeypatch):
    closed = []
    monkeypatch.setattr(fake, "camera_configuration", lambda self: {"main": {"size": (8, 8), "format": "SRGGB10"}})
    monkeypatch.setattr(fake, "close", lambda self: closed.append(True))
    with pytest.raises(InputError, match="gives SRGGB10"):
        PiCamera(0, WARM, 1, pytest.fail)
    assert closed == [True]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ImportError("No module named 'picamera2'"), "sudo apt install python3-picamera2.*--system-site-packages"),
        (ValueError("numpy.dtype size changed"), "pip install --upgrade simplejpeg"),
    ],
)
def test_a_missing_or_unfit_picamera2_is_reported_with_what_to_do(monkeypatch, error, message):
    class Module(types.ModuleType):
        def __getattr__(self, name):
            raise error

    monkeypatch.setitem(sys.modules, "picamera2", Module("picamera2"))
    with pytest.raises(InputError, match=message):
        PiCamera(0, WARM, 1, pytest.fail)


@pytest.fixture
def picture():
    """Smooth colours, so that halved chroma loses little; in the range of video."""
    rows, columns = np.mgrid[0:48, 0:64]
    picture = np.dstack([40 + 2 * columns, 60 + 3 * rows, 200 - columns - rows]).astype(np.uint8)
    return np.ascontiguousarray(picture)


def laid_out(picture, form, stride):
    """The picture in the layout in which picamera2 hands it over, its rows padded to `stride` pixels."""
    padded = cv2.copyMakeBorder(picture, 0, 0, 0, stride - picture.shape[1], cv2.BORDER_REPLICATE)
    i420 = cv2.cvtColor(padded, cv2.COLOR_RGB2YUV_I420)
    height, area = padded.shape[0], padded.shape[0] * stride
    luma, u, v = i420.ravel()[:area], i420.ravel()[area : area * 5 // 4], i420.ravel()[area * 5 // 4 :]
    wide_u, wide_v = (np.repeat(c.reshape(height // 2, stride // 2), 2, axis=0) for c in (u, v))
    luma = luma.reshape(height, stride)
    packed = {
        "BGR888": lambda: picture,
        "RGB888": lambda: picture[..., ::-1],
        "XBGR8888": lambda: np.dstack([picture, np.full(picture.shape[:2], 255, np.uint8)]),
        "XRGB8888": lambda: np.dstack([picture[..., ::-1], np.zeros(picture.shape[:2], np.uint8)]),
        "YUV420": lambda: i420,
        "YVU420": lambda: np.concatenate([luma.ravel(), v, u]).reshape(-1, stride),
        "NV12": lambda: np.concatenate([luma.ravel(), np.dstack([u, v]).ravel()]).reshape(-1, stride),
        "NV21": lambda: np.concatenate([luma.ravel(), np.dstack([v, u]).ravel()]).reshape(-1, stride),
        "YUYV": lambda: np.dstack([luma, np.dstack([wide_u, wide_v]).reshape(height, stride)]),
        "YVYU": lambda: np.dstack([luma, np.dstack([wide_v, wide_u]).reshape(height, stride)]),
        "UYVY": lambda: np.dstack([np.dstack([wide_u, wide_v]).reshape(height, stride), luma]),
        "MJPEG": lambda: picture,
    }
    return packed[form]()


@pytest.mark.parametrize("padding", [0, 16])
@pytest.mark.parametrize("form", [*picamera._CONVERSIONS, "BGR888", "MJPEG"])
def test_every_format_becomes_rgb(picture, form, padding):
    rgb = to_rgb(laid_out(picture, form, 64 + padding), form, (64, 48))
    assert (rgb.shape, rgb.dtype) == (picture.shape, np.uint8)
    assert rgb.flags.c_contiguous
    assert np.abs(rgb.astype(int) - picture).max() <= (0 if "8" in form or form == "MJPEG" else 6)
