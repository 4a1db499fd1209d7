# Two images from one file: `docker build --target gateway .` and `docker build --target node .`
# Packages come from the hashed lists in requirements/, as `./dev` takes them.
ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS builder
COPY requirements/uv.txt /build/requirements/
RUN pip install --no-cache-dir --require-hashes -r /build/requirements/uv.txt
WORKDIR /build
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_NO_CACHE=1 UV_PYTHON_DOWNLOADS=never VIRTUAL_ENV=/opt/grid
RUN uv venv /opt/grid
COPY requirements/ requirements/

FROM builder AS gateway-builder
RUN uv pip install --require-hashes -r requirements/gateway.txt
COPY pyproject.toml README.md LICENSE ./
COPY grid/ grid/
RUN uv pip install --no-deps --no-build-isolation .

FROM builder AS node-builder
# torch for the processor; for CUDA build with --build-arg TORCH_BACKEND=cu130 or the like
ARG TORCH_BACKEND=cpu
RUN uv pip install --require-hashes -r requirements/node.txt \
    && uv pip install --torch-backend=${TORCH_BACKEND} torch==2.13.0
COPY pyproject.toml README.md LICENSE ./
COPY grid/ grid/
RUN uv pip install --no-deps --no-build-isolation .

FROM python:${PYTHON}-slim AS runtime
RUN groupadd --gid 10001 grid \
    && useradd --uid 10001 --gid grid --no-create-home --home-dir /data --shell /usr/sbin/nologin grid \
    && install --directory --owner=grid --group=grid --mode=0700 /data
ENV PATH=/opt/grid/bin:${PATH} PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 GRID_HOST=0.0.0.0 GRID_DATA=/data
USER 10001:10001
VOLUME /data
STOPSIGNAL SIGTERM

FROM runtime AS gateway
COPY --from=gateway-builder /opt/grid /opt/grid
ENV PORT=5000
EXPOSE 5000
HEALTHCHECK --interval=15s --timeout=5s --start-period=20s CMD ["python", "-c", \
    "import os, urllib.request as u; u.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/health-check', timeout=4)"]
ENTRYPOINT ["grid-gateway"]
CMD ["start"]

FROM runtime AS node
COPY --from=node-builder /opt/grid /opt/grid
ENV PORT=5001
EXPOSE 5001
HEALTHCHECK --interval=15s --timeout=5s --start-period=20s CMD ["python", "-c", \
    "import os, urllib.request as u; u.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/health-check', timeout=4)"]
ENTRYPOINT ["grid-node"]
CMD ["start"]
