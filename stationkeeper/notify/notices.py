"""A record of the loop as the one notice that is told of it, or none; pure."""

from collections.abc import Callable, Mapping

from stationkeeper.contracts.masking import masked
from stationkeeper.contracts.messages import Deployment, Level, RetrainRequest, Verdict, VerdictKind
from stationkeeper.contracts.topics import Topics
from stationkeeper.notify.notifier import Notice, Told

# Kinds that say how something ended come before the level, which for them is that of a report and calls for nobody.
_BY_KIND = {VerdictKind.RECOVERED: Told.RECOVERED, VerdictKind.CURE: Told.CURE}
_BY_LEVEL = {Level.PAGE: Told.PAGE, Level.WARN: Told.WARN}

Reading = Callable[[bytes, str], Notice | None]


def readings(topics: Topics) -> Mapping[str, tuple[frozenset[Told], Reading]]:
    """Return for each topic what its records can tell, and what reads one; it raises ``ValidationError``."""
    return {
        topics.verdicts.name: (frozenset({*_BY_KIND.values(), *_BY_LEVEL.values()}), _verdict),
        topics.requests.name: (frozenset({Told.REQUEST}), _request),
        topics.deployments.name: (frozenset({Told.DEPLOYMENT}), _deployment),
    }


def _verdict(value: bytes, page: str) -> Notice | None:
    one = Verdict.decode(value)
    told = _BY_KIND.get(one.kind) or _BY_LEVEL.get(one.level)
    if told is None:
        return None
    return Notice(
        id=one.id,
        told=told,
        time=one.time,
        model=one.model,
        version=one.version,
        text=masked(f"{told.value}: {one.model} {one.version}: {one.kind.value}: {one.reason}"),
        url=f"{page}/incidents/{one.incident}" if page and one.incident else _of_model(page, one.model),
        incident=one.incident or "",
        facts={
            "kind": one.kind.value,
            "level": one.level.value,
            "state": one.state.value,
            "cause": one.cause,
            "subject": one.subject.name,
            "segment": one.segment,
            "rows": one.rows,
            "onset": None if one.onset is None else one.onset.time.isoformat(),
        },
    )


def _request(value: bytes, page: str) -> Notice | None:
    one = RetrainRequest.decode(value)
    # Written again with what became of it: a cure is told by its verdict.
    if one.cure is not None:
        return None
    said = f"withdrawn: {one.withdrawn}" if one.withdrawn else f"requested for {one.cause} of {', '.join(one.subjects)}"
    return Notice(
        id=f"{one.id}/withdrawn" if one.withdrawn else one.id,
        told=Told.REQUEST,
        time=one.time,
        model=one.model,
        version=one.version,
        text=masked(f"request: {one.model} {one.version}: retraining {said} ({one.id})"),
        url=_of_model(page, one.model),
        incident=one.incident,
        request=one.id,
        facts={"kind": one.kind.value, "cause": one.cause, "manual": one.manual, "onset": one.onset.time.isoformat()},
    )


def _deployment(value: bytes, page: str) -> Notice | None:
    one = Deployment.decode(value)
    return Notice(
        id=one.id,
        told=Told.DEPLOYMENT,
        time=one.time,
        model=one.model,
        version=one.canary or one.champion,
        text=masked(f"deployment: {one.model}: {one.action.value.replace('_', ' ')}: {one.reason}"),
        url=_of_model(page, one.model),
        request=one.request or "",
        facts={"action": one.action.value, "champion": one.champion, "canary": one.canary, "weight_bp": one.weight_bp},
    )


def _of_model(page: str, model: str) -> str:
    return f"{page}/models/{model}" if page else ""
