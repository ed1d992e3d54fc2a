"""How long a role is away when it is started again: its state read back from the log, and from a local cache.

In: state and topics that the programs write themselves, in memory or on a real broker. Out: seconds and bytes, printed.
State: none is kept between runs. Invariant: what is read back decides as what was written.
Each file is a program: `restore` (the judge of many models), `join_cache` (predictions that wait for labels).
"""
