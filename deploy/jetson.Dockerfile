# SuperNode for NVIDIA Jetson. Flower 1.41 needs Python 3.11 or newer, which decides what a JetPack can do:
#   JetPack 7 (Ubuntu 24.04, Python 3.12): GPU. BASE is ubuntu:24.04 or NVIDIA's CUDA image for your JetPack, TORCH_INDEX the
#     index of CUDA wheels for aarch64 that PyTorch's install page names; run with --runtime nvidia.
#   JetPack 6 (Python 3.10; its CUDA wheels of torch are for 3.10 only): CPU. BASE stays ubuntu:24.04, TORCH_INDEX is the index of
#     CPU wheels. Measure the GPU with devprof itself on the host: its core needs Python 3.10 and no Flower.
#   docker build -f deploy/jetson.Dockerfile --build-arg TORCH_INDEX=URL -t devprof-supernode-jetson .
ARG BASE=ubuntu:24.04
FROM ${BASE}

ARG TORCH_INDEX=
ENV DEBIAN_FRONTEND=noninteractive PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1
RUN apt-get update && apt-get install --yes --no-install-recommends python3 python3-venv && rm -rf /var/lib/apt/lists/*
RUN python3 -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "BASE has Python %d.%d, Flower 1.41 needs 3.11: take ubuntu:24.04" % sys.version_info[:2])' \
    && python3 -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
RUN pip install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch torchvision

WORKDIR /opt/devprof
COPY pyproject.toml README.md LICENSE ./
COPY devprof devprof
COPY strategies strategies
COPY datasets_meta datasets_meta
RUN pip install ".[fl,train]"

RUN install -d -m 1777 /var/lib/flower
# Ubuntu's image has the user 1000 already. The groups that own the GPU are given at run time: --group-add video --group-add render.
USER 1000:1000
WORKDIR /var/lib/flower
# NVIDIA's container runtime makes visible what these name. Nothing is sent anywhere, looked up or installed at run time.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    FLWR_HOME=/var/lib/flower DEVPROF_CACHE=/var/lib/flower/devprof \
    FLWR_TELEMETRY_ENABLED=0 FLWR_DISABLE_UPDATE_CHECK=1 FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION=1
ENTRYPOINT ["flower-supernode"]
