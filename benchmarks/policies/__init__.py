"""When to retrain: the shipped rule beside calendars, rules of others and the best in hindsight, on the same losses.

In: streams cut into periods. Out: total cost of each policy over that of the best in hindsight. State: none; the losses
of a stream are computed once a run. Invariant: a policy sees only periods that are over, and pays for every training.
Read `streams`, then `matrix`, `policies`, `peers` and ``__main__``.
"""
