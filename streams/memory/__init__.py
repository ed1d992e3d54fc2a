"""The ports over a log in memory: what Kafka does, in one process and without waiting; deterministic.

In: nothing. Out: sources, sinks and readers that share a `MemoryLog`.
State: the log. Invariant: it behaves as a broker does, aborted transactions, holes, compaction and groups included:
the conformance suite runs over both.
Read `log`, then `ports`.
"""
