"""QuPath: a GeoJSON collection of detections with their measurements, in pixels, as QuPath 0.4 and later writes them.

Drop the file on an open image. Detections, not annotations or QuPath's cells: thousands stay quick to draw, and no
part of them is said to be the nucleus.
"""

from __future__ import annotations

import csv
import json
import uuid

from cellseg_device.formats.content import Content
from cellseg_device.polygons import Polygon

_NAMESPACE = uuid.UUID("8a8b0a5e-0b2c-4c5e-9d36-0f6f1f5c7a11")


def encode(content: Content) -> bytes:
    """Encode a result as a FeatureCollection.

    A cell of one part is a Polygon, of more a MultiPolygon; its name is its label. The same label in an image of the
    same name has the same identifier, so that what was imported before is known again.
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
    """The polygons, each ring's first corner also as its last."""
    closed = [[(corners := ring.tolist()) + corners[:1] for ring in polygon] for polygon in polygons]
    if len(closed) == 1:
        return {"type": "Polygon", "coordinates": closed[0]}
    return {"type": "MultiPolygon", "coordinates": closed}


def _measurements(cells_csv: str) -> dict[int, dict[str, float]]:
    """The table of cells by label; empty cells of it are left out."""
    rows = csv.DictReader(cells_csv.splitlines())
    return {int(row.pop("label")): {name: float(value) for name, value in row.items() if value} for row in rows}
