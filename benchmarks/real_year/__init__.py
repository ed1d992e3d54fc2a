"""A year of life on real streams: pages, warnings and requests of the shipped judge, and what new models were worth.

In: streams in order of time, with labels that come as late as in life. Out: a line a stream. State: none between runs.
Invariant: nothing is planted and nothing is tuned to a stream; models see only labels that were known by then.
Read `streams`, then `year` and ``__main__``.
"""
