"""Losses of a model among mature labels: found after how long, called what, and what quiet months say.

In: seeds. Out: tables on stdout. State: none. Invariant: labels go through `Watch.learn`, a day late, as production's
do. River's ADWIN on the same errors stands beside it. Read ``__main__``.
"""
