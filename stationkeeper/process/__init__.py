"""The roles as processes: how a configuration becomes loops, who keeps them alive, and what they answer over HTTP.

In: a `Config`. Out: running loops, and one port a process with /metrics, /livez, /readyz, /api/v1 and the status
page. State: the children that `up` has started, and the last status and samples of each loop. Invariant: a child
starts with a safe path, so that nothing in the working directory shadows a room.
Read `wiring` (stages and loops), `run` (one role), `replica` (its name), `children` and `supervisor` (`up`),
`reload` (SIGHUP), `listener` (who may ask a port, and how much), `telemetry` and `web` (what is served), `spans` and
`otlp` (what a collector is sent), `first_champion`.
"""
