"""References that come from a model's own past or from a newly trained version, not from a file.

In: the history topic, or the rows of a snapshot. Out: a `Reference`. State: none. Invariant: the cells are made as
`profile` makes them.
Read `from_history`, `from_table` (what became of each column), then `fresh_version` (what retraining calls for its
candidate).
"""
