"""How answers are written: prediction events for the log, bodies for the callers, by msgspec in one pass."""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from stationkeeper.deploy.router.requests import Rows, Segment, Value
from stationkeeper.registry import Prediction

Arm = Literal["champion", "canary"]


# Not the pydantic message: encoding is on the path of each answer, and msgspec does a batch in one pass
# (docs/performance).
class Event(msgspec.Struct, omit_defaults=True):
    """A ``contracts.messages.PredictionEvent`` as it is written; a test holds both to the same JSON."""

    event_id: str
    time: int
    model: str
    version: str
    features: dict[str, Value]
    prediction: Prediction
    kind: str = ""
    segment: Segment | None = None
    arm: Arm | None = None
    latency_ms: float | None = None
    entity_id: str | None = None
    action: str | None = None
    assignment_prob: float | None = None


class Answer(msgspec.Struct, omit_defaults=True):
    """One row of what the caller gets."""

    event_id: str
    prediction: Prediction
    version: str
    arm: Arm
    action: str | None = None


class _Batch(msgspec.Struct):
    model: str
    predictions: list[Answer]


_encoder = msgspec.json.Encoder()


def plain_body(model: str, answers: list[Answer], *, single: bool) -> bytes:
    """Return one answer, or ``{"model", "predictions": [...]}`` in the order of the instances."""
    return _encoder.encode(answers[0] if single else _Batch(model, answers))


def infer_body(model: str, answers: list[Answer], request_id: str | None) -> bytes:
    """Return a KServe v2 response with outputs ``prediction``, ``action``, ``version``, ``arm`` and ``event_id``."""
    # A v2 tensor has one datatype: the probabilities of several classes are written as JSON texts.
    numeric = not any(isinstance(one.prediction, dict) for one in answers)
    values: list[Any] = [one.prediction if numeric else _encoder.encode(one.prediction).decode() for one in answers]

    def texts(name: str, column: Sequence[str | None]) -> dict[str, Any]:
        return {"name": name, "datatype": "BYTES", "shape": [len(answers)], "data": list(column)}

    outputs = [
        {"name": "prediction", "datatype": "FP64" if numeric else "BYTES", "shape": [len(answers)], "data": values},
        texts("action", [one.action for one in answers]),
        texts("version", [one.version for one in answers]),
        texts("arm", [one.arm for one in answers]),
        texts("event_id", [one.event_id for one in answers]),
    ]
    body: dict[str, Any] = {"model_name": model, "outputs": outputs}
    versions = {one.version for one in answers}
    # A request that both arms answered has no one version; the output `version` says it row by row.
    if len(versions) == 1:
        body["model_version"] = versions.pop()
    if request_id is not None:
        body["id"] = request_id
    return _encoder.encode(body)


def event_values(
    model: str,
    rows: Rows,
    answers: Sequence[Answer],
    latency_ms: dict[Arm, float],
    probability: dict[Arm, float] | None,
) -> list[bytes]:
    """Return every row's prediction event as JSON; ``probability`` is None while all traffic has one arm."""
    encode = _encoder.encode
    return [
        encode(
            Event(
                event_id,
                time,
                model,
                answer.version,
                features,
                answer.prediction,
                "prediction",
                segment,
                answer.arm,
                latency_ms[answer.arm],
                entity,
                answer.action,
                # With all traffic on one arm there is no assignment, and a probability would be taken for a randomised
                # one.
                probability[answer.arm] if probability else None,
            )
        )
        for event_id, time, features, segment, entity, answer in zip(
            rows.event_ids, rows.times, rows.features, rows.segments, rows.entity_ids, answers, strict=True
        )
    ]
