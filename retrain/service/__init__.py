"""The retrain stage: moves each request one committed step at a time.

In: request records, the approvals and rollouts tables, finished steps. Out: state records, and at the end a candidate
with its reference. State: one ``RetrainState`` a request, with all that a restart needs to repeat its step alike.
Invariant: a step starts only from a committed state, so a step that was killed is repeated and nothing else.

Read ``state``, ``requests`` (those committed and those moved), ``progress`` (what each finished step leads to),
``approvals`` (what people say), ``steps`` (what touches the world), ``worker`` (the thread and the subprocess),
``stage``, ``lineage`` (what a version says of its origin), ``plots`` (its pictures).
"""
