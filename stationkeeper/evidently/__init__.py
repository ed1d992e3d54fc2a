"""Evidently's own report of our data, made by Evidently in an environment of its own.

In: a reference, rows of a table or of a snapshot, and Evidently's column mapping. Out: its HTML file. State: the
environment, made once from hashed requirements. Invariant: our processes never import Evidently or pandas.
Read `mapping`, `rows`, `report`, `environment`, `runner` (the only file that runs there).
"""
