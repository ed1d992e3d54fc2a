"""A training snapshot of many rows: memory and time from events to Parquet.

In: how many rows. Out: a table and a file of figures. State: none. Invariant: what is measured is the reader, join and
store that the role retrain runs, over a log that is made while it is read.
"""
