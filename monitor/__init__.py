"""Watches models in production: counts events, judges the counts, and publishes verdicts and requests.

In: prediction, feature and label events, references, rollouts. Out: panes, joined outcomes, verdicts, history,
requests.
State: each stage's own, on compacted topics, in the same transaction as its output. Invariant: every record read ends
in exactly one counted way, and a verdict is a function of the log.
Read `core` (the statistics, pure), then the flow: `tally` counts, `join` pairs predictions with labels, `judge`
decides, `status` shows, `verify` counts again the plain way; `plugins` are detectors that are not ours. `references`,
`settings`, `state_codec`, `packets`, `hashtable` and `profiling` serve several of them.
"""

from stationkeeper.monitor.profiling import profile

__all__ = ["profile"]
