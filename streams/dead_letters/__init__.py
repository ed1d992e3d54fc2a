"""Records that nobody can use: kept as they came, counted, limited, looked at and sent again.

In: a record and the closed code of its fault. Out: a record on the dead-letter topic, byte for byte, with headers.
State: how many of the latest records were rejected. Invariant: a bad record stops nothing; past the limit its topic is
stopped, uncommitted.
Read `letters` (how one is written), `limit`, `oversize`, and `box` (listing, showing and replaying them).
"""
