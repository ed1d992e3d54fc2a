"""Serving measured: one small ONNX model behind `serve` and behind its peers, one core each, asked by one program.

In: nothing; the peers' environments are made by the first run. Out: a table, figures as JSON.
Read `__main__` (the run), `servers` (who is started, and how), `load` (who asks), `ours` and the `peer_` files (the
programs that are started).
"""
