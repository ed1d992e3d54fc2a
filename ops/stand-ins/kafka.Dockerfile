ARG BASE
FROM ${BASE}
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends openjdk-17-jre-headless \
    && useradd --uid 1000 appuser && install -d -o 1000 /var/lib/kafka/data /opt/kafka/bin /opt/kafka/config
COPY jars /opt/kafka/libs
COPY kafka-start kafka-broker-api-versions.sh /opt/kafka/bin/
USER 1000
ENTRYPOINT ["/opt/kafka/bin/kafka-start"]
