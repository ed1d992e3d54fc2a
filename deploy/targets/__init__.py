"""Where models are served: what the controller asks of any serving platform, and the platforms that ship.

In: committed rollout records. Out: weights on the platform, and what it really serves.
State: none here; the platform has it, and the log is the truth.
Invariant: traffic never above the recorded weight; every call may be repeated; an older epoch changes nothing.
Read `target` (the protocol), `router` (our own server), `http` (the team's own), the platforms `kubernetes`,
`sagemaker`, `vertex` and `mlflow_alias`, `dry_run` (says what it would do), and `conformance` (the suite that a third
party runs against its target; docs/extending.md).
"""

from stationkeeper.deploy.targets.conformance import check_target
from stationkeeper.deploy.targets.http import HttpTarget
from stationkeeper.deploy.targets.router import RouterTarget
from stationkeeper.deploy.targets.target import (
    Abilities,
    ChangedByOthers,
    Observation,
    Target,
    abilities_of,
    serves,
    target_for,
)

__all__ = [
    "Abilities",
    "ChangedByOthers",
    "HttpTarget",
    "Observation",
    "RouterTarget",
    "Target",
    "abilities_of",
    "check_target",
    "serves",
    "target_for",
]
