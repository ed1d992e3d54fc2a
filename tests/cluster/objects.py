"""The objects that a team has in its cluster before a target is pointed at them, as its manifests say them."""

from datetime import UTC, datetime
from typing import Any

from stationkeeper.contracts.messages import Rollout, RolloutPhase

Object = dict[str, Any]
URI = "s3://models/{model}/{version}"


def service(version: str, model: str = "fraud") -> Object:
    """Return the Service of one version."""
    metadata = {"name": f"{model}-{version}", "namespace": "scoring"}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [{"port": 8080}]}}


def route(model: str = "fraud") -> Object:
    """Return a route of two rules; version 1 gets all of what is named ``score``, the other is none of our business."""
    rules = [
        {
            "name": "score",
            "matches": [{"path": {"type": "PathPrefix", "value": "/score"}}],
            "backendRefs": [{"name": f"{model}-1", "port": 8080}],
        },
        {"name": "docs", "backendRefs": [{"name": "docs", "port": 80, "weight": 3}, {"name": "old", "port": 80}]},
    ]
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": model, "namespace": "scoring", "annotations": {"owner": "risk"}},
        "spec": {"parentRefs": [{"name": "public"}], "rules": rules},
    }


def inference_service(mode: str, model: str = "fraud", name: str | None = None) -> Object:
    """Return an InferenceService of version 1, called as its model unless it has another name."""
    predictor: Object = {
        "minReplicas": 2,
        "model": {"modelFormat": {"name": "onnx"}, "storageUri": URI.format(model=model, version="1")},
    }
    if mode == "Standard":
        predictor["maxReplicas"] = 6
    annotations = {"serving.kserve.io/deploymentMode": mode}
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name or model, "namespace": "scoring", "annotations": annotations},
        "spec": {"predictor": predictor},
    }


def record(
    epoch: int, champion: str = "1", canary: str | None = None, weight_bp: int = 0, model: str = "fraud"
) -> Rollout:
    """Return a committed record."""
    phase = RolloutPhase.CANARY if canary else RolloutPhase.STEADY
    return Rollout(
        model=model,
        epoch=epoch,
        time=datetime(2026, 1, 1, tzinfo=UTC),
        phase=phase,
        champion=champion,
        canary=canary,
        weight_bp=weight_bp,
    )
