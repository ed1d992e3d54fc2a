"""A Kafka for development: found, or started from pinned jars on this machine."""

from stationkeeper.streams.broker.find import FoundBroker, find_broker
from stationkeeper.streams.broker.local import LocalBroker

__all__ = ["FoundBroker", "LocalBroker", "find_broker"]
