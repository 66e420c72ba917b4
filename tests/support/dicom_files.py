"""DICOM files for tests, written by pydicom."""

import io

import cv2
import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit, RLELossless, generate_uid

SECRET = "Doe^Jane"


def dataset(pixels, *, bits=None, **more):
    """Return a file of these pixels, with the name of a patient."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["cellseg"])
    file = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    file.SOPClassUID, file.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    file.PatientName, file.PatientID, file.PatientSex, file.PatientAge = SECRET, "4711", "F", "051Y"
    file.Modality, file.ViewPosition = "CR", "PA"
    file.Rows, file.Columns = pixels.shape[:2]
    file.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
    file.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "RGB"
    if pixels.ndim == 3:
        file.PlanarConfiguration = 0
    file.BitsAllocated = pixels.itemsize * 8
    file.BitsStored = bits or file.BitsAllocated
    file.HighBit = file.BitsStored - 1
    file.PixelRepresentation = int(pixels.dtype.kind == "i")
    file.PixelData = pixels.tobytes()
    for name, value in more.items():
        setattr(file, name, value)
    return file


def jpeg(pixels, **more):
    """Return a file with a JPEG inside, as the chest X-rays of SIIM-ACR have it."""
    file = dataset(pixels, **more)
    _, data = cv2.imencode(".jpg", pixels if pixels.ndim == 2 else pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
    file.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    file.PixelData = encapsulate([data.tobytes()])
    file["PixelData"].VR = "OB"
    if pixels.ndim == 3:
        file.PhotometricInterpretation = "YBR_FULL_422"
    return file


def run_length(pixels, **more):
    """Return a file with run lengths inside."""
    file = dataset(pixels, **more)
    file.compress(RLELossless, generate_instance_uid=False)
    return file


def content(file):
    """Return a file's bytes."""
    data = io.BytesIO()
    file.save_as(data, enforce_file_format=True)
    return data.getvalue()


def write(path, file):
    """Write a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content(file))
    return path


def grey(shape=(24, 32), kind=np.uint8, top=255):
    """Return pixels that all differ a little."""
    return (np.arange(np.prod(shape)).reshape(shape) * top // np.prod(shape)).astype(kind)
