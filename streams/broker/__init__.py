"""A Kafka for development, the demo and fault tests: found, or started from pinned jars on this machine.

In: the environment, a Docker daemon, or a Java. Out: bootstrap servers.
State: a data directory that may be deleted. Invariant: what is downloaded is held to committed SHA-256 sums before it
runs.
Read `find` (in which order), `local` (nodes as child processes), `jars`.
"""

from stationkeeper.streams.broker.find import FoundBroker, find_broker
from stationkeeper.streams.broker.local import LocalBroker

__all__ = ["FoundBroker", "LocalBroker", "find_broker"]
