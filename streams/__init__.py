"""Kafka as the rooms see it: sources, transactional sinks, dead letters, compacted state and a local broker."""
