"""What labels that come late, or never, say of the rows they belong to: one rule for the monitor and for training.

In: counts of rows and labels by age, by action. Out: which share has come, when no label is one, which actions keep
labels away. State: none. Invariant: what the monitor judges by is what the trainer learns by.
Read `delay`, then `actions`.
"""
