"""QuPath: a GeoJSON collection of detections with their measurements, in pixels, as QuPath 0.4 and later writes them.

To import the file, drop it on an open image. They are detections, not annotations or QuPath's cells: thousands of them
are drawn fast, and no part of one is declared to be the nucleus.
"""

from __future__ import annotations

import csv
import json
import uuid

from cellseg_device.cells.polygons import Polygon
from cellseg_device.results.formats.content import Content

_NAMESPACE = uuid.UUID("8a8b0a5e-0b2c-4c5e-9d36-0f6f1f5c7a11")


def encode(content: Content) -> bytes:
    """Return a result as a FeatureCollection.

    A cell of one part is a Polygon, one of several parts a MultiPolygon; its name is its label. The same label in an
    image of the same name has the same identifier, so that objects imported before are recognised.
    """
    measurements = _measurements(content.cells_csv)
    features = (  # one at a time: they are large
        {
            "type": "Feature",
            "id": str(uuid.uuid5(_NAMESPACE, f"{content.name}\n{label}")),
            "geometry": _geometry(polygons),
            "properties": {
                "objectType": "detection",
                "name": str(label),
                "measurements": measurements.get(label, {}),
            },
        }
        for label, polygons in content.polygons.items()
    )
    lines = ",\n".join(json.dumps(feature, separators=(",", ":")) for feature in features)
    return f'{{"type":"FeatureCollection","features":[\n{lines}\n]}}\n'.encode()


def _geometry(polygons: list[Polygon]) -> dict[str, object]:
    """Return the polygons as GeoJSON, where each ring's first corner is also its last."""
    closed = [[(corners := ring.tolist()) + corners[:1] for ring in polygon] for polygon in polygons]
    if len(closed) == 1:
        return {"type": "Polygon", "coordinates": closed[0]}
    return {"type": "MultiPolygon", "coordinates": closed}


def _measurements(cells_csv: str) -> dict[int, dict[str, float]]:
    """Return the measurements of each cell by its label; empty ones are left out."""
    rows = csv.DictReader(cells_csv.splitlines())
    return {int(row.pop("label")): {name: float(value) for name, value in row.items() if value} for row in rows}
