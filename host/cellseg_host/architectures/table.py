"""All architectures by name."""

from __future__ import annotations

from cellseg_device.errors import InputError
from cellseg_device.suggestions import unknown
from cellseg_host.architectures import densenet121, double_unet, edge_unet, encoder_unet, hrnet, kind_net, unet, unetpp
from cellseg_host.architectures.architecture import Architecture

ARCHITECTURES = {
    a.name: a
    for a in (
        Architecture(
            "edge-unet",
            edge_unet.build,
            edge_unet.STRIDE,
            edge_unet.MARGIN,
            "this project",
            ("foreground", "distance"),
        ),
        Architecture("unet", unet.build, unet.STRIDE, unet.MARGIN, unet.PAPER),
        # The variants of the published work on DSB2018 crops of 128 px, and on fields of 200 × 200
        Architecture(
            "unet-128",
            unet.build,
            unet.STRIDE,
            unet.MARGIN,
            unet.PAPER,
            options={"activation": "elu", "dropout": (0.1, 0.1, 0.2, 0.2, 0.3)},
        ),
        Architecture(
            "unet-200",
            unet.build,
            8,
            unet.MARGIN,
            unet.PAPER,
            options={"filters": (32, 64, 128, 256), "dropout": (0.0,), "batch_norm": True},
        ),
        Architecture("unetpp", unetpp.build, unetpp.STRIDE, unetpp.MARGIN, unetpp.PAPER),
        Architecture(
            "unetpp-efficientnet-b4",
            unetpp.build,
            32,
            unetpp.MARGIN,
            unetpp.PAPER,
            options={"encoder": "efficientnet-b4", "filters": (32, 64, 128, 256, 512)},
        ),
        Architecture("hrnet", hrnet.build, hrnet.STRIDE, hrnet.MARGIN, hrnet.PAPER),
        Architecture("hrnet-w18-small", hrnet.build, hrnet.STRIDE, hrnet.MARGIN, hrnet.PAPER, options=hrnet.SMALL),
        Architecture("double-unet", double_unet.build, double_unet.STRIDE, double_unet.MARGIN, double_unet.PAPER),
        Architecture("vgg19-unet", encoder_unet.build, encoder_unet.STRIDE, encoder_unet.MARGIN, encoder_unet.PAPER),
        Architecture(
            "resnet50-unet",
            encoder_unet.build,
            encoder_unet.STRIDE,
            encoder_unet.MARGIN,
            encoder_unet.PAPER,
            options={"encoder": "resnet50"},
        ),
        Architecture(
            "densenet121",
            densenet121.build,
            densenet121.STRIDE,
            densenet121.MARGIN,
            densenet121.PAPER,
            ("presence",),
        ),
        Architecture("kind-net", kind_net.build, kind_net.STRIDE, kind_net.MARGIN, "this project", ("kind",)),
    )
}


def get(name: str) -> Architecture:
    """Return the architecture of this name.

    Raises
    ------
    InputError
        If there is none of this name.
    """
    if name not in ARCHITECTURES:
        raise InputError(f"--arch: there is {unknown('architecture', name, list(ARCHITECTURES))}")
    return ARCHITECTURES[name]
