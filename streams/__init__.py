"""Kafka as the rooms see it: ports, the one loop that drives every role, and what implements them.

In: the settings of the broker and a stage. Out: batches as columns; records and offsets committed in one transaction.
State: positions and open transactions, nothing that outlives the process. Invariant: what a stage absorbed and what
it wrote commit together or not at all; every result of a send is checked.
Read `ports`, `loop` (with `inputs`, `offsets` and `vitals`), `errors` (what may be tried again), `settings` and
`connect`, then one implementation: `kafka`, `librdkafka` or `memory` (held to one suite, tests/conformance);
`handshake` (why a cluster refuses us), `oauth` (tokens for kafka-python), `deadline` (time limits of HTTP, also for the
rooms above), `own_topics` (one of ours that was deleted and made again), `dead_letters`, `broker` and `parent` stand
beside them.
"""
