"""Watches a model in production: tallies events into panes, judges the panes, publishes verdicts and requests."""
