"""Whether everything that a configuration names is there, before anything runs.

In: a `Config`. Out: one result a question, each with what to do. State: none. Invariant: our own topics are made
where they are missing, input topics only when asked (`--create`); what it reads it does not change.
Read `checks` (the questions in order, topics and retention), `finding` (a result), `baselines` (which reference each
model has, since when, and how far its adoption is), `inputs` (the newest records, read as the monitor reads them by
`sample`), `mismatch` (events beside the reference), `platform` (registry, trainers, targets).
"""
