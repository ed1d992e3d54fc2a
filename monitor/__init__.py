"""Watches a model in production: tallies events into panes, judges the panes, publishes verdicts and requests."""

from stationkeeper.monitor.profiling import profile

__all__ = ["profile"]
