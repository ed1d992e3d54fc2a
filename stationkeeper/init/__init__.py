"""A first configuration from a sample of a topic, of a file, or of both.

In: records and rows. Out: a commented YAML. State: none. Invariant: what is written reads the sample it was guessed
from, by the one reader of events; nothing else is asked of a broker.
Read `first` (what was given, and the proof), `records` (what records hold), `infer` (what it seems to be), `names`
(what a name says of that), `past` (how a table is read), `classes` (which class scores are about), `write`.
"""
