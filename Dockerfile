# Two images from one file: `--target monitor` holds what the monitor needs, `--target full` (the last, so the default)
# every role. The command names the role: monitor, retrain, deploy, serve or up.
# No `# syntax=` line: BuildKit's own reader understands this file, and nothing but the base image is pulled.
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS tools
# The time of the commit, so that two builds of one commit put the same times into the wheel and its archive.
ARG SOURCE_DATE_EPOCH=0
ENV SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH} UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never \
    VIRTUAL_ENV=/opt/stationkeeper
WORKDIR /src
COPY requirements/uv.txt requirements/build.txt requirements/
# uv goes into an environment of its own: a base whose Python belongs to its distribution refuses a bare pip install.
RUN --mount=type=cache,target=/root/.cache \
    python -m venv /opt/tools \
    && /opt/tools/bin/python -m pip install --require-hashes -r requirements/uv.txt \
    && /opt/tools/bin/uv venv --python python3 "$VIRTUAL_ENV"
ENV PATH=/opt/tools/bin:$PATH

# The wheel is built once and goes into both images.
FROM tools AS wheel
COPY pyproject.toml README.md LICENSE CHANGELOG.md ./
COPY contracts contracts
COPY streams streams
COPY events events
COPY registry registry
COPY monitor monitor
COPY retrain retrain
COPY deploy deploy
COPY stationkeeper stationkeeper
RUN --mount=type=cache,target=/root/.cache \
    uv build --wheel --build-constraint requirements/build.txt --out-dir /dist .

# The source comes after its dependencies, so that a change of code reuses the layers above.
FROM tools AS monitor-environment
COPY requirements/base.txt requirements/
RUN --mount=type=cache,target=/root/.cache \
    uv pip install --require-hashes -r requirements/base.txt
COPY --from=wheel /dist /dist
RUN uv pip install --no-deps /dist/*.whl

FROM tools AS full-environment
COPY requirements/image.txt requirements/
RUN --mount=type=cache,target=/root/.cache \
    uv pip install --require-hashes -r requirements/image.txt
COPY --from=wheel /dist /dist
RUN uv pip install --no-deps /dist/*.whl

FROM python:${PYTHON}-slim AS run
# The commit; the version is written by `make release`.
ARG REVISION=unknown
LABEL org.opencontainers.image.title="stationkeeper" \
      org.opencontainers.image.description="A streaming drift monitor that closes the MLOps loop" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${REVISION}"
# Root file system may be read-only: what a process writes goes to /tmp or to the one state directory.
ENV PATH=/opt/stationkeeper/bin:$PATH HOME=/tmp MPLCONFIGDIR=/tmp/matplotlib GIT_PYTHON_REFRESH=quiet \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
COPY LICENSE THIRD_PARTY_NOTICES.md /usr/share/doc/stationkeeper/
RUN install -d -o 10001 -g 10001 /var/lib/stationkeeper /var/lib/mlflow
WORKDIR /var/lib/stationkeeper
# A number, so that a cluster that demands a non-root user can see that it is one.
USER 10001:10001
STOPSIGNAL SIGTERM
ENTRYPOINT ["stationkeeper"]
CMD ["--help"]

FROM run AS monitor
COPY --from=monitor-environment /opt/stationkeeper /opt/stationkeeper

FROM run AS full
COPY --from=full-environment /opt/stationkeeper /opt/stationkeeper
