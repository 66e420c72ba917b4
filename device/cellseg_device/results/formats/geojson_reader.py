"""Outlines of cells in GeoJSON, as QuPath exports it: objects with areas, in pixels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from cellseg_device.cells.filling import Outline
from cellseg_device.image.opencv import reason, shown
from cellseg_device.model.fields import load_object

_WITHOUT_AREA = ("Point", "MultiPoint", "LineString", "MultiLineString", "GeometryCollection")
_FARTHEST_PX = 1e6
_AGAIN = "export the objects again"


def read(data: bytes) -> Iterator[Outline]:
    """Yield the outline of each object in its order; where it has a nucleus, that of the nucleus.

    A FeatureCollection, a list of features, or a single one. What it is of, annotation, detection or cell, makes no
    difference.

    Raises
    ------
    ValueError
        With what is wrong in words for a user.
    """
    for number, feature in enumerate(_features(data), start=1):
        what = f"object {number}"
        if not isinstance(feature, dict):
            raise ValueError(f"{what} is not a feature: {_AGAIN} as GeoJSON")
        geometry = feature.get("nucleusGeometry") or feature.get("geometry")
        if not isinstance(geometry, dict):
            raise ValueError(f"{what} has no geometry: {_AGAIN}, or delete it")
        kind, coordinates = geometry.get("type"), geometry.get("coordinates")
        if kind in _WITHOUT_AREA:
            raise ValueError(f"{what} is a {kind}, which has no area: draw its outline, or delete it")
        if kind not in ("Polygon", "MultiPolygon"):
            raise ValueError(f"{what} is of the unknown type {shown(kind, 40)}: {_AGAIN} as GeoJSON")
        polygons = [coordinates] if kind == "Polygon" else coordinates
        if not isinstance(polygons, list) or not all(isinstance(polygon, list) for polygon in polygons):
            raise ValueError(f"{what} has wrong coordinates: {_AGAIN}")
        rings = [_ring(ring, what) for polygon in polygons for ring in polygon]
        if not rings:
            raise ValueError(f"{what} has no corners: {_AGAIN}, or delete it")
        yield rings


def _features(data: bytes) -> list[object]:
    try:
        text = data.decode("utf-8-sig")
        is_list = text.lstrip().startswith("[")
        document = load_object(f'{{"features":{text}}}' if is_list else text)
    except ValueError as error:
        raise ValueError(f"is not valid JSON ({reason(error)}): {_AGAIN}") from None
    if document.get("type") == "Feature":
        return [document]
    features = document.get("features")
    if not isinstance(features, list) or not (is_list or document.get("type") == "FeatureCollection"):
        raise ValueError(f"is JSON, but no FeatureCollection: {_AGAIN} as GeoJSON")
    return features


def _ring(ring: object, what: str) -> npt.NDArray[np.float64]:
    """Return the corners of a ring, without heights that some programs add."""
    if not isinstance(ring, list) or len(ring) < 3:
        raise ValueError(f"{what} has a ring of fewer than three corners: {_AGAIN}, or delete it")
    if not all(isinstance(corner, list) and len(corner) >= 2 and _are_numbers(corner[:2]) for corner in ring):
        raise ValueError(f"{what} has a corner that is not two numbers: {_AGAIN}")
    corners = np.array([corner[:2] for corner in ring], np.float64)
    if np.abs(corners).max() > _FARTHEST_PX:
        raise ValueError(f"{what} has a corner more than a million pixels away: {_AGAIN} in pixels")
    return corners


def _are_numbers(values: list[object]) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
