"""Slow seasons: what a year of them says with and without a reference that follows, and whether a real ramp is found.

In: made days. Out: a line a year. State: none; seeds are fixed. Invariant: what is judged goes through `profile` and
`Watch` as production does. Read ``__main__``.
"""
