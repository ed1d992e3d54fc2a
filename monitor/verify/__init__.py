"""Counts the input topics a second time, the plain way, and compares every number with what the tally wrote.

In: input topics up to the committed offsets, the records of the tally. Out: differences, or that there are none.
State: none. Invariant: it shares no reading and no counting with the tally, on purpose: a fault must be in both to
hide.
Read `verify`, `recount`, `reading`, `cells`, `arms`, `segments`, `recorded`.
"""
