"""A real Apache Kafka on this machine: KRaft nodes as child processes, for development, the demo and fault tests."""

import base64
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from stationkeeper.streams.broker.jars import KAFKA_VERSION, cache_directory, class_path, java
from stationkeeper.streams.errors import Fatal, Retryable
from stationkeeper.streams.parent import guard

# A node is up in 3 to 4 s here; a minute is for a laptop that unpacks it for the first time.
START_S: Final = 60.0
# A node that was told to stop flushes its log within a second; past this it is killed, which Kafka survives.
STOP_S: Final = 20.0
# Enough for a demo of 85 000 events, and small enough for three nodes beside everything else on 8 GiB.
HEAP: Final = "-Xmx512m"
# What the storage tool takes to format one directory; half of it fails.
_TOOL_HEAP: Final = "-Xmx128m"
# Where a node reads which features of Kafka are on before it has a log: what the storage tool writes into a directory,
# besides the ids. It is the same for every node of a version but for its time.
_FEATURES: Final = Path("__cluster_metadata-0") / "00000000000000000000-0000000000.checkpoint"
# Lines of a node's log in the error: what Kafka says before it ends, with the trace's beginning.
_LOG_SHOWN: Final = 15
# A question to a node that is up is answered within milliseconds; one that starts refuses, or is asked again.
_ASK_S: Final = 1.0
_ADMIN_MS: Final = 2_000


@dataclass(slots=True)
class Node:
    """One broker and controller: its id, ports, directory and process."""

    id: int
    port: int
    controller_port: int
    directory: Path
    second_port: int = 0
    process: subprocess.Popen[bytes] | None = None
    guard: subprocess.Popen[bytes] | None = None

    def unguard(self) -> None:
        """End the guard before the process: it would end whoever has its number next."""
        if self.guard is not None:
            self.guard.kill()
            self.guard.communicate()
            self.guard = None


class LocalBroker:
    """A cluster of 1 or 3 combined KRaft nodes; a context manager that starts on entry and stops on exit.

    ``directory`` keeps the data (default: a temporary one, removed at the end). ``port`` is the first node's.
    ``advertised`` gives the first node a second listener, at ``second_port``, that tells its clients to come back to
    that port: a proxy's, for example, which then stands between them. ``more`` are settings of ``server.properties``.
    """

    def __init__(
        self,
        directory: Path | None = None,
        *,
        nodes: int = 1,
        port: int = 0,
        advertised: int = 0,
        more: Mapping[str, str] | None = None,
    ) -> None:
        if nodes not in {1, 3}:
            raise ValueError(f"nodes: {nodes} is not possible; a local cluster has 1 or 3 nodes")
        self._temporary = tempfile.TemporaryDirectory(prefix="stationkeeper-kafka-") if directory is None else None
        self._root = Path(self._temporary.name) if self._temporary is not None else Path(directory or ".")
        ports = free_ports(2 * nodes)
        self.nodes = [Node(i + 1, ports[2 * i], ports[2 * i + 1], self._root / f"node-{i + 1}") for i in range(nodes)]
        if port:
            self.nodes[0].port = port
        self._advertised, self._more = advertised, dict(more or {})
        if advertised:
            self.nodes[0].second_port = free_ports(1)[0]
        self._kept = cache_directory() / "formatted.checkpoint"
        self._java = ""
        self._class_path = ""

    @property
    def bootstrap(self) -> str:
        """Return the bootstrap servers."""
        return ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    @property
    def description(self) -> str:
        """Return in words what this is."""
        many = "1 node" if len(self.nodes) == 1 else f"{len(self.nodes)} nodes"
        return f"Apache Kafka {KAFKA_VERSION}, {many} on this machine, {self.bootstrap}"

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Format the nodes that are new, start all and wait until they answer; raises ``Fatal`` with the log's end."""
        self._java, self._class_path = java(), class_path()
        cluster = self._cluster_id()
        for node in self.nodes:
            node.directory.mkdir(parents=True, exist_ok=True)
            (node.directory / "server.properties").write_text(self._properties(node))
            if not (node.directory / "data" / "meta.properties").exists():
                _format(node, cluster, self._kept, self._command(_TOOL_HEAP))
        for node in self.nodes:
            self.start_node(node)
        for node in self.nodes:
            self.wait_node(node)

    def start_node(self, node: Node) -> None:
        """Start one node without waiting for it."""
        with (node.directory / "kafka.log").open("ab") as output:
            node.process = subprocess.Popen(
                [*self._command(HEAP), "kafka.Kafka", str(node.directory / "server.properties")],
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        # A session of its own keeps Ctrl-C from the node, so nobody else would end it when this process is killed.
        node.unguard()
        node.guard = guard(node.process.pid)

    def wait_node(self, node: Node) -> None:
        """Wait until a node answers a metadata request."""
        deadline = time.monotonic() + START_S
        while not _answers(node.port):
            if node.process is None or node.process.poll() is not None or time.monotonic() > deadline:
                log = (node.directory / "kafka.log").read_text(errors="replace").splitlines()[-_LOG_SHOWN:]
                raise Fatal("\n".join([f"Kafka node {node.id} did not start; its log ends:", *log]))
            # A node takes seconds to start; twenty looks a second cost nothing and delay nobody.
            time.sleep(0.05)

    def kill(self, node: int = 1) -> None:
        """Kill a node as ``kill -9`` does."""
        process = self._process(node)
        self.nodes[node - 1].unguard()
        process.kill()
        process.wait()

    def pause(self, node: int = 1) -> None:
        """Stop a node's clock: it answers nothing until ``resume``."""
        self._process(node).send_signal(signal.SIGSTOP)

    def resume(self, node: int = 1) -> None:
        """Let a paused node go on."""
        self._process(node).send_signal(signal.SIGCONT)

    def restart(self, node: int = 1) -> None:
        """Start a killed node again and wait for it."""
        self.start_node(self.nodes[node - 1])
        self.wait_node(self.nodes[node - 1])

    def stop(self) -> None:
        """End every node and remove a temporary directory."""
        for node in self.nodes:
            node.unguard()
        running = [node.process for node in self.nodes if node.process is not None and node.process.poll() is None]
        for process in running:
            process.send_signal(signal.SIGCONT)
            process.terminate()
        deadline = time.monotonic() + STOP_S
        for process in running:
            try:
                # A moment also past the deadline, which the first node may have used up.
                process.wait(max(deadline - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._temporary is not None:
            self._temporary.cleanup()

    def _process(self, node: int) -> subprocess.Popen[bytes]:
        process = self.nodes[node - 1].process
        if process is None:
            raise Retryable(f"node {node} is not running")
        return process

    def _command(self, heap: str) -> list[str]:
        # The serial collector: others start threads for every core, which a node this small has no use for. The first
        # compiler alone: the second one takes more processor time than the node's work until long after a demo's end
        # (2 000 transactions from a new node: 31 s with it, 15 s without; a thousand more: 4 s of work in both).
        return [self._java, heap, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", self._class_path]

    def _cluster_id(self) -> str:
        self._root.mkdir(parents=True, exist_ok=True)
        path = self._root / "cluster.id"
        if not path.exists():
            path.write_text(_new_id())
        return path.read_text()

    def _properties(self, node: Node) -> str:
        voters = ",".join(f"{n.id}@127.0.0.1:{n.controller_port}" for n in self.nodes)
        copies = str(len(self.nodes))
        # With three nodes one may be down and writes go on; with one there is no other to wait for.
        quorum = "2" if len(self.nodes) == 3 else "1"
        listeners, advertised = f"PLAINTEXT://127.0.0.1:{node.port}", f"PLAINTEXT://127.0.0.1:{node.port}"
        if node.second_port:
            listeners += f",SECOND://127.0.0.1:{node.second_port}"
            advertised += f",SECOND://127.0.0.1:{self._advertised}"
        settings = {
            "process.roles": "broker,controller",
            "node.id": str(node.id),
            "controller.quorum.voters": voters,
            "listeners": f"{listeners},CONTROLLER://127.0.0.1:{node.controller_port}",
            "advertised.listeners": advertised,
            "inter.broker.listener.name": "PLAINTEXT",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,SECOND:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": str(node.directory / "data"),
            # As the demo's inputs have: topics that a test makes without a number.
            "num.partitions": "3",
            "default.replication.factor": copies,
            "offsets.topic.replication.factor": copies,
            # Each is a directory and a log that is opened at the start; the default of 50 is for many groups.
            "offsets.topic.num.partitions": "8",
            "transaction.state.log.replication.factor": copies,
            "transaction.state.log.num.partitions": "8",
            "transaction.state.log.min.isr": quorum,
            "min.insync.replicas": quorum,
            # Kafka waits 3 s for more members; here each start would wait for nobody.
            "group.initial.rebalance.delay.ms": "0",
            # Below the default of 6 s, so that tests of lost members need not wait.
            "group.min.session.timeout.ms": "1000",
            # As production should be: a mistyped topic must fail and not be made.
            "auto.create.topics.enable": "false",
            # An eighth of the default 128 MiB, which would be a quarter of this heap.
            "log.cleaner.dedupe.buffer.size": "16777216",
            # Kafka looks for something to compact every 15 s; tests of compaction need not wait for it.
            "log.cleaner.backoff.ms": "1000",
            # Defaults are 3 and 8, for a machine of its own.
            "num.network.threads": "2",
            "num.io.threads": "4",
        }
        return "".join(f"{key}={value}\n" for key, value in (settings | self._more).items())


def _format(node: Node, cluster: str, kept: Path, command: list[str]) -> None:
    """Make a node's directory Kafka's: by its storage tool once, then by what that tool wrote, which is ``kept``."""
    data = node.directory / "data"
    if not kept.exists():
        _format_by_tool(node, cluster, command)
        kept.parent.mkdir(parents=True, exist_ok=True)
        # Two processes may do so at once: a rename is whole or not at all.
        part = kept.with_name(f".{kept.name}.{uuid.uuid4().hex}")
        shutil.copyfile(data / _FEATURES, part)
        part.rename(kept)
        return
    (data / _FEATURES).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(kept, data / _FEATURES)
    ids = {"version": "1", "cluster.id": cluster, "node.id": str(node.id), "directory.id": _new_id()}
    # Last: a directory with this file counts as formatted.
    (data / "meta.properties").write_text("".join(f"{key}={value}\n" for key, value in ids.items()))


def _format_by_tool(node: Node, cluster: str, command: list[str]) -> None:
    # One id in 64 begins with a dash: joined by "=", the storage tool does not take it for an option.
    options = [f"--cluster-id={cluster}", "--config", str(node.directory / "server.properties")]
    whole = [*command, "kafka.tools.StorageTool", "format", "--ignore-formatted", *options]
    done = subprocess.run(whole, capture_output=True, text=True, timeout=START_S, check=False)
    if done.returncode != 0:
        raise Fatal(f"cannot format {node.directory}: {done.stdout}{done.stderr}")


def _new_id() -> str:
    """Return a random id as Kafka writes them."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")


def free_ports(count: int) -> list[int]:
    """Return ports that are free now, all different."""
    # All held until the last is found, or the same port could be given twice.
    holders = [socket.socket() for _ in range(count)]
    for holder in holders:
        holder.bind(("127.0.0.1", 0))
    ports = [int(holder.getsockname()[1]) for holder in holders]
    for holder in holders:
        holder.close()
    return ports


def _answers(port: int) -> bool:
    from kafka import KafkaAdminClient
    from kafka.errors import KafkaError

    try:
        with socket.create_connection(("127.0.0.1", port), timeout=_ASK_S):
            pass
        admin = KafkaAdminClient(bootstrap_servers=[f"127.0.0.1:{port}"], request_timeout_ms=_ADMIN_MS)
    except (OSError, KafkaError):
        return False
    try:
        admin.list_topics()
    except KafkaError:
        return False
    finally:
        admin.close()
    return True
