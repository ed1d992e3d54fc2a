"""Input mappings for the retrain role: a mapped record becomes the contract's own form, as the tally reads it."""

from collections.abc import Mapping
from typing import Any

from stationkeeper.contracts.times import to_ms
from stationkeeper.events.mapping import Form, forms
from stationkeeper.monitor.settings import ModelSettings
from stationkeeper.retrain.snapshot.events import InputTopic, own_form

_PLAIN = ("event_id", "time", "model", "version", "prediction", "label", "kind")
_TO_MS = {"s": 1_000.0, "ms": 1.0, "us": 1e-3, "ns": 1e-6}


def retrain_inputs(model: ModelSettings) -> tuple[InputTopic, ...]:
    """Return the topics of a model as the retrain role reads them."""
    kinds: dict[str, set[str]] = {}
    for kind, mapping in model.topics().items():
        kinds.setdefault(mapping.topic, set()).add(kind)
    found = forms([model])
    return tuple(
        InputTopic(topic, frozenset(names), own_form if found[topic].own else Mapped(found[topic]))  # type: ignore[arg-type]
        for topic, names in kinds.items()
    )


class Mapped:
    """Turns one record of a mapped topic into the own form; None where it is not a JSON object."""

    def __init__(self, form: Form) -> None:
        self._form = form

    def __call__(self, value: bytes) -> Mapping[str, Any] | None:
        """Return the event in the own form."""
        record = own_form(value)
        if record is None:
            return None
        form = self._form
        event = {name: value_at(record, form.paths[name]) for name in _PLAIN if name in form.paths}
        event = {name: found for name, found in event.items() if found is not None}
        if form.model is not None:
            event["model"] = form.model
        if form.version is not None:
            event["version"] = form.version
        if len(form.kinds) == 1:
            event["kind"] = form.kinds[0]
        if isinstance(form.features, Mapping):
            event["features"] = {name: value_at(record, path) for name, path in form.features.items()}
        else:
            event["features"] = value_at(record, form.features) or {}
        time = event.get("time")
        if isinstance(time, int | float) and form.time_unit in _TO_MS:
            event["time"] = round(time * _TO_MS[form.time_unit])
        elif hasattr(time, "tzinfo"):
            event["time"] = to_ms(time)  # type: ignore[arg-type]
        return event


def value_at(record: Any, path: tuple[str, ...]) -> Any:
    """Return what lies at a path of object keys, None where the path ends early."""
    for key in path:
        if not isinstance(record, Mapping):
            return None
        record = record.get(key)
    return record
