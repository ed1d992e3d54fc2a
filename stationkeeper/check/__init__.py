"""Whether everything that a configuration names is there, before anything runs.

In: a `Config`. Out: one result a question, each with what to do. State: none. Invariant: our own topics are made
where they are missing, input topics only when asked (`--create`).
Read `checks`, then `baselines` (which reference each model has, since when, and how far its adoption is).
"""
