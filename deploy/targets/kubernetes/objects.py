"""A rollout written into one Kubernetes object, step by step, beside others who may change it.

What we wrote stands in an annotation of the object, in the same patch as the change itself: which record it follows
(the fence against a controller that was replaced), and how our fields looked after it. Fields that look otherwise
now were changed by someone else: that is reported, and left.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from pydantic import ValidationError

from stationkeeper.contracts.messages import Message, Rollout
from stationkeeper.deploy.targets.kubernetes.cluster import Cluster
from stationkeeper.deploy.targets.target import ChangedByOthers, Observation
from stationkeeper.streams.errors import Retryable

Found = Mapping[str, Any]
ANNOTATION = "stationkeeper/rollouts"
# A move takes up to four patches (KServe's way back in Knative mode), and controllers write the status of the same
# object between a read and a patch; with fewer tries a busy object would cost two seconds a collision.
_TRIES = 8
# What Services, Deployments and KServe's predictors may be called (RFC 1035).
_DNS_LABEL = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")


class Mark(Message):
    """What our last patch of a model was for, and how our fields looked after it.

    ``wrote`` is those fields in the placement's own shape, ``served`` the version that the stable part of the object
    names after it: it lags behind ``champion`` while a way takes several patches. ``revisions`` names the version that
    each revision of the platform runs, ``before`` the newest revision when the model was last exchanged (Knative).
    """

    schema_name: ClassVar[str] = "mark"
    epoch: int
    champion: str
    canary: str | None = None
    wrote: Any = None
    served: str = ""
    revisions: dict[str, str] = {}
    before: str = ""


@dataclass(frozen=True, slots=True)
class Patch:
    """One patch: the changed part of ``spec``, and what the mark shall remember of it."""

    spec: Found
    noted: Found = field(default_factory=dict)


class Placement(Protocol):
    """How versions and weights of a model are written into one kind of object: plain values in, values out.

    Each raises ``Retryable`` with a sentence where the object is not as it must be.
    """

    name: str

    def path(self, model: str) -> str:
        """Return the object's path in the API."""

    def fields(self, found: Found, mark: Mark, model: str) -> Any:
        """Return those fields of an object that are ours, as JSON has them."""

    def mismatch(self, found: Found, rollout: Rollout) -> str:
        """Return why an object that we never wrote does not serve the record's champion alone; empty if it does."""

    def step(self, found: Found, mark: Mark, rollout: Rollout) -> Patch | None:
        """Return the next patch, None when nothing is left to do; raises ``Retryable`` while the platform is moving."""

    def seen(self, found: Found, mark: Mark, model: str) -> Observation:
        """Return what is really served."""


class ObjectTarget:
    """A target whose rollouts live in one object a model: read, decide, patch what was read, until nothing is left."""

    def __init__(self, cluster: Cluster, placement: Placement) -> None:
        self.name = placement.name
        self._cluster, self._placement = cluster, placement

    def apply(self, rollout: Rollout) -> None:
        """Take the object to what a committed record says; raises ``Retryable`` with what it waits for."""
        path = self._placement.path(rollout.model)
        for _ in range(_TRIES):
            found = self._cluster.read(path)
            if found is None:
                raise Retryable(f"{path} does not exist: create it with champion {rollout.champion} first")
            patch = self._patch(found, rollout)
            if patch is None:
                return
            # Where someone was faster, the object is read and judged again.
            self._cluster.patch(path, patch)
        raise Retryable(f"{path} is being changed by others all the time; it is tried again")

    def observe(self, model: str) -> Observation | None:
        """Return what the object's status says is served; None before the first record was applied."""
        found = self._cluster.read(self._placement.path(model))
        mark = None if found is None else _marks(found).get(model)
        return None if found is None or mark is None else self._placement.seen(found, mark, model)

    def _patch(self, found: Found, rollout: Rollout) -> dict[str, Any] | None:
        marks, place, model = _marks(found), self._placement, rollout.model
        known = marks.get(model)
        if known is None:
            why = place.mismatch(found, rollout)
            if why:
                raise ChangedByOthers(f"{model}: nothing was changed: {why}")
        elif rollout.epoch < known.epoch:
            raise Retryable(f"{model}: epoch {known.epoch} is in force at the target, {rollout.epoch} is older")
        elif place.fields(found, known, model) != known.wrote:
            raise ChangedByOthers(
                f"{model}: someone else changed the object: {_short(place.fields(found, known, model))} where we wrote "
                f"{_short(known.wrote)}; it was left. Put it back, or let it serve version {rollout.champion} alone "
                f"and remove the annotation {ANNOTATION}"
            )
        mark = known or Mark(epoch=rollout.epoch, champion=rollout.champion, served=rollout.champion)
        step = place.step(found, mark, rollout)
        follows: dict[str, Any] = {"epoch": rollout.epoch, "champion": rollout.champion, "canary": rollout.canary}
        mark = mark.model_copy(update=follows | dict(step.noted if step else {}))
        after = merged(found, {"spec": step.spec}) if step else found
        mark = mark.model_copy(update={"wrote": place.fields(after, mark, model)})
        if step is None and mark == known:
            return None
        text = json.dumps({name: one.model_dump(exclude_defaults=True) for name, one in {**marks, model: mark}.items()})
        version = found["metadata"]["resourceVersion"]
        patch: dict[str, Any] = {"metadata": {"resourceVersion": version, "annotations": {ANNOTATION: text}}}
        return patch | ({"spec": step.spec} if step else {})


def _marks(found: Found) -> dict[str, Mark]:
    text = found["metadata"].get("annotations", {}).get(ANNOTATION)
    try:
        return {name: Mark.model_validate(one) for name, one in json.loads(text or "{}").items()}
    except (ValueError, ValidationError, AttributeError) as error:
        raise Retryable(f"the annotation {ANNOTATION} cannot be read; remove it: {error}") from error


def _short(fields: Any) -> str:
    return json.dumps(fields, sort_keys=True)


def merged(target: Any, patch: Any) -> Any:
    """Return a JSON value after a merge patch (RFC 7386): mappings by key, null removes, all else is replaced."""
    if not isinstance(patch, Mapping):
        return patch
    kept = dict(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            kept.pop(key, None)
        else:
            kept[key] = merged(kept.get(key), value)
    return kept


def dns_name(text: str) -> str:
    """Return a text as a name that Kubernetes takes: itself where it is one, else made one, with a digest of it.

    >>> dns_name("fraud-7")
    'fraud-7'
    >>> dns_name("fraud-1.2.0")
    'fraud-1-2-0-cfbfa1'
    """
    if _DNS_LABEL.fullmatch(text):
        return text
    # Six hex digits keep 1.2 and 1-2 apart; 50 letters leave room for what platforms append.
    digest = hashlib.sha256(text.encode()).hexdigest()[:6]
    plain = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:50]
    return f"{plain if plain[:1].isalpha() else f'v{plain}'}-{digest}"
