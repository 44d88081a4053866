# SuperLink, for any 64-bit machine. ServerApps run here: torch and the cost model are in the image.
#   docker build -f deploy/superlink.Dockerfile --build-arg TORCH_INDEX=URL -t devprof-superlink .
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
RUN pip install ".[fl,train,model]"

# Any user may be given (compose.yaml does), so the home of Flower is open like /tmp.
RUN useradd --create-home --uid 1000 flower && install -d -m 1777 /var/lib/flower
USER flower
WORKDIR /var/lib/flower
# Nothing is sent anywhere, looked up or installed at run time.
ENV FLWR_HOME=/var/lib/flower DEVPROF_CACHE=/var/lib/flower/devprof \
    FLWR_TELEMETRY_ENABLED=0 FLWR_DISABLE_UPDATE_CHECK=1 FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION=1
EXPOSE 8000
ENTRYPOINT ["flower-superlink", "--disable-runtime-dependency-installation"]
