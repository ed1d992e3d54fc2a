"""The stage that decides: open panes become closed ones, closed ones become verdicts, history and requests.

In: the panes topic (pane deltas, arms, outcomes, progress), references, rollouts. Out: verdicts, retrain requests,
merged panes for history, and its state.
State: open panes as checkpoints, watches in pieces, requests, cohorts; see `checkpoints` and `state`. Invariant:
decisions are made on panes that the watermark has closed, in their order, so that live, restarted, replicated and
replayed runs decide alike.
Read `stage`, `model` (one model), `watches`, `pending` and `watermark` (what closes when), `cohorts` and
`late_labels` (truth that comes later), `succession`, `segment_reference`, `decisions`, `checkpoints`, `state`,
`replay`.
"""
