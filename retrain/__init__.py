"""Turns a retrain request into a gated, registered candidate model with its lineage.

In: requests, approvals and rollouts of the log, and the event topics up to offsets that are fixed when enough labels
have matured. Out: a candidate and its reference in one transaction, a version in the registry, a snapshot on disk.
State: one record a request on a compacted topic (``service.state``). Invariants: one request gives at most one
candidate, whatever is killed; a snapshot's name is its content; no evidence never passes the gate.

Rooms: ``core`` (decisions, pure), ``snapshot`` (labelled rows of the topics), ``training`` (the subprocess and the port
for trainers), ``service`` (the stage). Beside them: ``settings``, ``bootstrap`` (a first champion from a file),
``gate_command`` (the gate for a pipeline), ``verification`` (a version trained once more and compared).
"""

from stationkeeper.retrain.settings import RetrainSettings, SnapshotSettings

__all__ = ["RetrainSettings", "SnapshotSettings"]
