"""Train, quantize and evaluate the models that :mod:`cellseg_device` runs."""

from cellseg_device import __version__ as __version__
