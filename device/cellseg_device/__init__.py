"""Cell segmentation beside the microscope: images in, masks, a table of cells and a count out."""

__version__ = "0.1.0"
