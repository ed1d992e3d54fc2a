# syntax=docker/dockerfile:1
# One image for every role; the command names the role: monitor, retrain, deploy, serve or up.
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS build
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never VIRTUAL_ENV=/opt/stationkeeper
WORKDIR /src
COPY requirements/uv.txt requirements/build.txt requirements/image.txt requirements/
RUN --mount=type=cache,target=/root/.cache \
    python -m pip install --require-hashes -r requirements/uv.txt \
    && uv venv --python python3 "$VIRTUAL_ENV" \
    && uv pip install --require-hashes -r requirements/image.txt
# The source comes after its dependencies, so that a change of code reuses the layers above.
COPY pyproject.toml README.md LICENSE ./
COPY contracts contracts
COPY streams streams
COPY events events
COPY registry registry
COPY monitor monitor
COPY retrain retrain
COPY deploy deploy
COPY stationkeeper stationkeeper
RUN --mount=type=cache,target=/root/.cache \
    uv pip install --build-constraint requirements/build.txt --no-deps .

FROM python:${PYTHON}-slim
LABEL org.opencontainers.image.title="stationkeeper" \
      org.opencontainers.image.description="A streaming drift monitor that closes the MLOps loop" \
      org.opencontainers.image.licenses="Apache-2.0"
# Root file system may be read-only: what a process writes goes to /tmp or to the one state directory.
ENV PATH=/opt/stationkeeper/bin:$PATH HOME=/tmp MPLCONFIGDIR=/tmp/matplotlib GIT_PYTHON_REFRESH=quiet \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
RUN install -d -o 10001 -g 10001 /var/lib/stationkeeper /var/lib/mlflow
COPY --from=build /opt/stationkeeper /opt/stationkeeper
WORKDIR /var/lib/stationkeeper
# A number, so that a cluster that demands a non-root user can see that it is one.
USER 10001:10001
STOPSIGNAL SIGTERM
ENTRYPOINT ["stationkeeper"]
CMD ["--help"]
