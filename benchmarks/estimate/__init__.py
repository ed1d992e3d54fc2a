"""Performance estimated without labels against what labels say, where inputs shift and where they do not.

In: seeds. Out: a table on stdout. State: none. Invariant: every estimator sees the very same rows.
NannyML's CBPE stands beside it where an interpreter with it is named; it is in no lock of ours.
"""
