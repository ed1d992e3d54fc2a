"""The rollout state machine and the canary analysis, pure: records and counts in, decisions out.

In: the last record of a model, candidates, minutes of both arms, the time. Out: the next record, an audit record, and
the reason with its numbers.
State: none outside the record. Invariant: the same inputs give the same record, wherever a process dies; what could
not be measured is neither success nor failure.
Read `rollout` (the machine), `moves`, `admission`, `promotion`, then `comparison`, `evidence`, `dispersion` (how many
rows count as one) and `minutes` (the analysis; `analysis` for the canaries of other controllers), `policy`,
`state`, `queries` (what the team's Prometheus says),
`split` (who is answered by whom, on probation too), `reasons`, and `forecast` (how long a rollout will take).
"""
