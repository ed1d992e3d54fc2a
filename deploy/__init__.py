"""Moves a candidate into production step by step, and answers requests meanwhile.

In: candidates, closed minutes from history, data-quality verdicts, approvals. Out: rollout and deployment records; the
weights that serving targets apply; predictions of the built-in router.
State: the rollout record of each model on its compacted topic; nothing else survives, and nothing else is needed.
Invariant: traffic never outruns the record: a weight is in the log before it is applied, and lapses to the champion.
Read `core` (the decisions, pure), `controller` (the role deploy), `router` (the role serve), `targets`, then
`adoption` and `drill` (what the command line does), `analysis` (the canaries of other controllers) and `settings`.
"""
