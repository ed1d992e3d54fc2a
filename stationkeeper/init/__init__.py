"""A first configuration from a sample of a topic or a file.

In: records or rows. Out: a commented YAML. State: none. Invariant: what is written is read from the sample; nothing
else is asked of a broker.
Read `sample` (what was given), `infer` (what it seems to be), `write`.
"""
