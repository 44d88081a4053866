# SuperNode for boards without a GPU: Raspberry Pi 4 and 5 (64-bit), mini PC. Build on the board, or with buildx for linux/arm64:
#   docker build -f deploy/supernode.Dockerfile --build-arg TORCH_INDEX=URL -t devprof-supernode .
# TORCH_INDEX is the index of CPU wheels that PyTorch's install page names: the default wheels for Linux need gigabytes of CUDA.
FROM python:3.11-slim

ARG TORCH_INDEX=
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1
RUN pip install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch torchvision

WORKDIR /opt/devprof
COPY pyproject.toml README.md LICENSE ./
COPY devprof devprof
COPY strategies strategies
COPY datasets_meta datasets_meta
RUN pip install ".[fl,train]"

# A SuperNode needs no root; any user may be given (compose.yaml does), so the home of Flower is open like /tmp.
RUN useradd --create-home --uid 1000 flower && install -d -m 1777 /var/lib/flower
USER flower
WORKDIR /var/lib/flower
# Nothing is sent anywhere, looked up or installed at run time.
ENV FLWR_HOME=/var/lib/flower DEVPROF_CACHE=/var/lib/flower/devprof \
    FLWR_TELEMETRY_ENABLED=0 FLWR_DISABLE_UPDATE_CHECK=1 FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION=1
ENTRYPOINT ["flower-supernode"]
