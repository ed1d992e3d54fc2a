"""Commands that work on files instead of topics, timed as a person runs them.

In: Parquet files and rows that the programs draw. Out: seconds and rows a second, printed. State: Evidently's
environment in the user's cache, made by the first run. Invariant: the whole process counts, its start included.
Each file is a program: `replay` (backtest), `evidently` (its report).
"""
