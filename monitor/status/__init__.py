"""Status: a model as people and Prometheus see it, read from the judge at its last closed pane.

In comes a `ModelJudge` with its references. Out go `contracts.model_status.ModelStatus` and metric samples.
State: the points of each chart, in memory only; a restart begins the charts anew and loses no verdict.
Invariant: page and metrics show the same numbers, and nothing here changes what is decided.
Read `model` (the whole), `subject` (one watched column), `series` (its points), `performance` (labels and measures).
"""

from stationkeeper.monitor.status.model import ModelView
from stationkeeper.monitor.status.performance import maturity_reason, measure_status, selected

__all__ = ["ModelView", "maturity_reason", "measure_status", "selected"]
