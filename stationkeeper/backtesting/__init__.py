"""The judge's own core over a file, or over a model's past on its topics, without a broker to write to.

In: a table, events or the history topic, and settings. Out: `Backtested`: verdicts in the order in which they fell,
what other tools' rules raised, and the course of what moved. State: none outside a run. Invariant: the watch, its
decisions and its draws are those of the daemon.
Read `table` (what is read), `replay` (one pass), `labels` (when each counts), `run` (printed), `surrogate_model` (where
there are labels and no predictions), `peers` and `course` (beside ours), `topics` and `comparison` (the past under
changed settings).
"""
