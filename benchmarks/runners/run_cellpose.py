"""Cellpose's network as a peer: its time alone, with random weights, since its weights are not on a package index."""

from __future__ import annotations

import argparse
import importlib.metadata
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from cellpose.core import run_net
from cellpose.resnet_torch import CPnet
from cellpose.transforms import normalize_img
from protocol import Found, serve


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    cv2.setNumThreads(arguments.threads)
    # As `cellpose.models` builds it on a CPU: two channels in, two flows and a probability out
    network = CPnet([2, 32, 64, 128, 256], 3, sz=3, mkldnn=True).to(torch.device("cpu")).eval()

    def segment(path: Path) -> Found:
        grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        pixels = normalize_img(np.stack([grey, np.zeros_like(grey)], axis=2).astype(np.float32), axis=-1)
        start = time.perf_counter()
        run_net(network, pixels[None])  # in tiles of 224, as it does by itself
        return Found(None, (time.perf_counter() - start) * 1e3)

    versions = {"cellpose": importlib.metadata.version("cellpose"), "torch": torch.__version__}
    serve(segment, versions)


if __name__ == "__main__":
    main()
