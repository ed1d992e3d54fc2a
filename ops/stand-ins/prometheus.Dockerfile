ARG BASE
FROM ${BASE}
ARG PACKAGE
ARG PROGRAM
ARG STATE
# wget is what the health checks call.
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends ${PACKAGE} wget \
    && ln -s "$(command -v ${PROGRAM})" /bin/program-of-this-image \
    && install -d -o nobody ${STATE}
USER nobody
WORKDIR ${STATE}
ENTRYPOINT ["/bin/program-of-this-image"]
