"""Train, quantize and evaluate the models that :mod:`cellseg_device` runs."""

__version__ = "0.1.0"
