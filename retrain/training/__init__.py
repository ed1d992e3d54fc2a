"""One training in a process of its own, and the port for trainers: a user's class trains as ours do.

In: a ``job.json`` that names a snapshot by its SHA-256, the windows that compete and the champion to compare with.
Out, in the same directory: ``result.json``, the artifact (ONNX and card), scores of held-out and of all rows, a log.
State: none. Invariant: equal jobs give equal models; an ONNX model that scores otherwise than the trained one is an
error, and a pickle is never written.

Read ``trainer`` (the port) and ``conformance`` (what a trainer must hold to), ``job``, ``process`` and ``process_tree``
(seen from outside), ``train`` and ``training`` (inside), ``search`` (for parameters, in a time), ``scored_rows`` and
``shadow`` (what it leaves), ``encoding``, ``estimators`` and ``tree_ensemble`` (ours), ``command`` (any program),
``export`` (ONNX and card).
"""

from stationkeeper.retrain.training.trainer import FittedModel, OnnxModel, Trainer, TrainerError, TrainingData

__all__ = ["FittedModel", "OnnxModel", "Trainer", "TrainerError", "TrainingData"]
