"""What a person and Prometheus ask of a running role: how long an answer takes, and how long it holds the interpreter.

In: models and series of a size that is asked for. Out: milliseconds over HTTP, printed. State: none. Invariant: the
pages and the metrics are those that ship, behind the server that ships.
Each file is a program: `page` (a browser's status pages), `scrape` (ten thousand series).
"""
