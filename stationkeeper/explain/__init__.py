"""Why: counts, bins and formula behind a verdict, and the chain from a verdict to a deployment and back.

In: an id and the topics. Out: text or JSON. State: none. Invariant: every number comes from the log; a sensitive
feature's values are not named.
Read `lineage` (who caused whom), `bins` (the counts), `explain`, `verify` (the digests checked again), `openlineage`
(a training for collectors of lineage).
"""
