"""The role deploy: a stage that turns what comes in into rollout records, and a thread that carries them out.

In: batches of candidates, history, verdicts and approvals. Out: rollouts and deployments in the same transaction as
the offsets; after the commit, calls to targets and the registry's alias.
State: the last rollout record of each model. Invariant: effects come after the commit, are idempotent and may be
lost: the next look at the target finds the difference.
Read `stage`, `inputs` (what each record does), `rollouts`, `origins` (who made a version), `effects` (targets and the
registry's alias), `queries` (asked of the team's Prometheus), `status`.
"""
