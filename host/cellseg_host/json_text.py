"""JSON text of documents that commands print and reports write."""

from __future__ import annotations

import dataclasses
import json
from typing import Any


def to_json(document: Any, indent: int | None = 2) -> str:
    """Return the JSON text of a document that may hold dataclasses; in one line without an indent."""
    return json.dumps(document, indent=indent, ensure_ascii=False, default=dataclasses.asdict)
