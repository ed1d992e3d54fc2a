"""The client library measured beside scouter-ml's: time on the request path, events lost while the broker is away.

In: nothing; scouter-ml's environment is made by the first run. Out: a table, figures as JSON.
Read `__main__` (the run and the counting), `ours` and `peer_scouter` (a service that logs at a steady pace).
"""
