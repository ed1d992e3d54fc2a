"""Verify: count the input topics a second time, plainly, and compare with what the tally and the join wrote.

In come the input topics up to the committed offsets, and the panes, joins and state of tally and join. Out comes a
`Verification`: differences in words, and what could not be compared. No state is kept, nothing is written.
Invariant: records are read without the decoder, columns and grouping of the tally, so that no fault of theirs is
repeated here; only the frozen cells and the written rules are shared.
Read `reading` (one record), `cells` and `arms` (what it adds), `recount` (a partition), `outcomes` (the label
join), `recorded` (what was written), `comparison`.
"""

from stationkeeper.monitor.verify.comparison import Verification, verify

__all__ = ["Verification", "verify"]
