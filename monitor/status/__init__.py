"""A model as people and Prometheus see it: the numbers of its last closed pane, as typed JSON and as samples.

In: a `ModelJudge` and its references. Out: `ModelStatus` of contracts and metric samples; both hold the same numbers.
State: the points of charts since the process began. Invariant: nothing shown is newer than what is committed, and
what is unknown is said to be unknown, with its reason.
Read `model`, `subject`, `performance`.
"""
