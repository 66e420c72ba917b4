"""Synthetic microscope fields with exact labels: for tests, demos and self-tests, never for accuracy."""

from cellseg_host.synth.field import make_field
from cellseg_host.synth.settings import SynthSettings
from cellseg_host.synth.write import write_fields

__all__ = ["SynthSettings", "make_field", "write_fields"]
