# The workstation's commands, and the device's, in a container:
#
#   docker build --tag cellseg .
#   docker run --rm -it --user "$(id -u):$(id -g)" --volume "$PWD:/data" cellseg cellseg-host --help
#
# With an NVIDIA GPU (the host needs its driver and the NVIDIA Container Toolkit, nothing of CUDA):
#
#   docker build --build-arg EXTRAS=gpu --tag cellseg-gpu .
#   docker run --rm -it --gpus all --user "$(id -u):$(id -g)" --volume "$PWD:/data" cellseg-gpu cellseg-host --help

FROM debian:bookworm-slim AS base
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
ENV LANG=C.UTF-8 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1

# For contributors, who mount their checkout: what `make test` needs beside Python. See .devcontainer
FROM base AS development
COPY .ci/packages /tmp/packages
RUN apt-get update \
    && grep -v '^#' /tmp/packages | xargs apt-get install --yes --no-install-recommends git \
    && rm -rf /var/lib/apt/lists/*

FROM base AS workstation
ARG EXTRAS=
RUN python3 -m venv /opt/cellseg
COPY . /tmp/cellseg
RUN /opt/cellseg/bin/pip install /tmp/cellseg/device "/tmp/cellseg${EXTRAS:+[$EXTRAS]}" && rm -rf /tmp/cellseg
# Whoever runs it may have no home there
ENV PATH=/opt/cellseg/bin:$PATH HOME=/tmp
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
WORKDIR /data
CMD ["cellseg-host", "--help"]
