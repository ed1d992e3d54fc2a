"""Records that nobody can use: kept as they came, counted, limited, looked at and sent again.

In: a record and the closed code of its fault. Out: a record on the dead-letter topic, byte for byte, with headers.
State: how many of the latest records were rejected. Invariant: poison is data; past the limit the consumer stops
uncommitted.
Read `letters`, `limit`, `oversize`, and `box` (the verbs of a person).
"""
