"""The planning and gating of a retraining, pure: evidence in, decisions with reasons out.

In: requests, counts of labelled rows, scores and labels as arrays. Out: a plan, a split, a threshold, a verdict, each
with the numbers behind it. State: none; ``now`` is always an argument, so a replay decides alike.
Invariant: the rows a model is judged on are rows that no model of the comparison has learnt from.

Read ``reasons`` (where a request stands), ``plan`` (train, wait or refuse), ``labels`` (which texts are the positive
class), ``split`` (who may see which row), ``measures``, ``threshold``, ``gate`` (the paired comparison), ``segments``
(harm that the whole hides), ``value`` (what decisions are worth), ``selection`` (whom labels do not tell of),
``verdict`` (all of these as one answer), ``shadow`` (whom a challenger would answer otherwise).
"""
