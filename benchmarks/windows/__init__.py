"""Which rows to learn from after a change: each training window of a retraining beside the one that it chooses.

In: the fraud demo's world by seed, with so many labelled rows since its change. Out: average precision on rows that
come later, by window. State: none. Invariant: windows are fitted and chosen by the code of a real training, and no row
on which they are compared was seen by any of them. Read ``__main__``.
"""
