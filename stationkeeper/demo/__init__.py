"""The whole loop on one machine: a scenario is replayed against real roles until a new version has replaced the model.

In: a scenario (made card fraud, or the flights of 2013). Out: lines while it runs, a `DemoSummary`, and an exit code
that says whether the loop closed. State: files below its work directory. Invariant: the roles are the product's own;
the demo only sends events and reads topics.
Read `scenario`, `card_fraud` with `fraud` and `flights` (the two streams), `run`, `stage` (configuration and roles),
`driver` and `pace` (events at their time), `loop_history` and `console_log` (what the roles did), `served` (what the
model did), `gain` with `calendars`, `summary`.
"""
