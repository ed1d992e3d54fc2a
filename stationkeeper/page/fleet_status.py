"""Merges the status of the roles in this process and of its peers into the fleet that pages and API show."""

import contextlib
import ssl
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from http.client import HTTPException, IncompleteRead
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal, Protocol

from stationkeeper.contracts.masking import masked
from stationkeeper.contracts.messages import SubjectState
from stationkeeper.contracts.metrics import METRICS, STATE_NUMBER, Sample
from stationkeeper.contracts.model_status import ModelStatus
from stationkeeper.contracts.status import (
    SCHEMA_VERSION,
    Conservation,
    FleetStatus,
    ModelRefusal,
    RoleHealth,
    understood,
)
from stationkeeper.events import RefusedModel
from stationkeeper.page.fleet import fleet_page
from stationkeeper.page.model import model_page, subject_page
from stationkeeper.streams.deadline import HTTPHandler, HTTPSHandler

# A page waits this long for another role's whole answer before it shows it as not answering. Half gives up on a busy
# role, double makes the page slow whenever one is down.
PEER_TIMEOUT_S = 1.0
# What of an answer is read: the status of 10 000 subjects has some 5 MB, and a wrong address may send without end.
_MOST_BYTES = 64 * 1024 * 1024
# Of why an answer is not understood as much is shown: two lines of the page, enough for the path of a wrong field.
_MOST_WORDS = 300
# However many people look at once, each role is asked once a second.
PEER_FRESH_S = 1.0
# A model is called stale after ten of its panes without data, but never before ten minutes: with panes of seconds a
# short pause of the traffic would else look like a fault.
STALE_PANES = 10
STALE_AT_LEAST_MS = 10 * 60_000


class RoleView(Protocol):
    """What the web server needs of a role; ``streams.loop.Loop`` has it. Called from other threads than the loop's."""

    @property
    def role(self) -> str:
        """Return the role's name: tally, join, judge, retrain, deploy or serve."""

    def samples(self) -> Sequence[Sample]:
        """Return the samples of the last commit."""

    def status(self) -> Mapping[str, Any]:
        """Return the status of the last commit; empty before the first."""

    def live(self) -> bool:
        """Return whether the loop turned lately, whatever the broker does."""

    def ready(self) -> bool:
        """Return whether partitions are assigned, state is restored and the broker answers."""

    def reasons(self) -> Sequence[str]:
        """Return, in words, why the role is not live or not ready; empty when it is both."""


# A scrape of these while the loop stands would draw a straight line through an outage.
MEASURED = frozenset(
    {
        "stationkeeper_model_state",
        "stationkeeper_subjects",
        "stationkeeper_performance_ratio",
        "stationkeeper_performance_amount",
        "stationkeeper_performance_estimate_ratio",
        "stationkeeper_performance_estimate_error_ratio",
        "stationkeeper_performance_estimate_labels",
        "stationkeeper_label_completeness_ratio",
        "stationkeeper_canary_evidence",
        *(metric.name for metric in METRICS if "subject" in metric.labels),
    }
)
"""What is only true while it is measured; facts (an open incident, a champion, a watermark) stay until they change."""


def fresh_samples(view: RoleView) -> list[Sample]:
    """Return a role's samples; those of a loop that stands still are withdrawn where they would be read as of now."""
    if view.live():
        return list(view.samples())
    return [sample for sample in view.samples() if sample.metric not in MEASURED]


def _as_of_before(model: ModelStatus, role: str) -> ModelStatus:
    """Return a model that nobody measures any more: unknown, without its last numbers and with the reason."""
    old = model.copy()
    reason = f"{role} stands still, so nothing is known since the last closed minute"
    old["state"], old["reason"] = "unknown", reason
    subjects: list[Any] = []
    for subject in model["subjects"]:
        kept = {key: value for key, value in subject.items() if key not in _NUMBERS}
        subjects.append({**kept, "state": "unknown", "reason": reason})
    old["subjects"] = subjects
    # A measure has no state of its own to call unknown, so it goes as a whole.
    old.pop("performance", None)
    return old


_NUMBERS = frozenset({"statistic", "effect", "distances", "noise", "quality"})


def _health(view: RoleView) -> RoleHealth:
    health = RoleHealth(role=view.role, live=view.live(), ready=view.ready(), reasons=[str(r) for r in view.reasons()])
    lag = [s.value for s in view.samples() if s.metric == "stationkeeper_consumer_lag_records"]
    if lag:
        # Records over all partitions: the sum is what is left to read.
        health["lag"] = int(sum(lag))
    beats = [s.value for s in view.samples() if s.metric == "stationkeeper_stage_heartbeat_timestamp_seconds"]
    if beats:
        # Seconds, as Prometheus wants them; the page counts in ms.
        health["heartbeat"] = int(max(beats) * 1_000)
    detail = view.status().get("detail")
    if detail:
        health["detail"] = dict(detail)
    return health


def own_status(views: Iterable[RoleView], now_ms: int) -> FleetStatus:
    """Return the fleet as the roles of this process alone see it."""
    fleet = empty_fleet(now_ms)
    for view in views:
        part = view.status()
        fleet["roles"].append(_health(view))
        fleet["conservation"].extend(part.get("conservation", ()))
        models = part.get("models", ())
        fleet["models"].extend(models if view.live() else [_as_of_before(model, view.role) for model in models])
        fleet["requests"].extend(part.get("requests", ()))
        fleet["rollouts"].extend(part.get("rollouts", ()))
        _add_dead_letters(fleet, part.get("dead_letters", {}))
    return fleet


def empty_fleet(now_ms: int) -> FleetStatus:
    """Return a fleet in which nothing is known yet."""
    return FleetStatus(
        schema_version=SCHEMA_VERSION, generated=now_ms, roles=[], models=[], conservation=[], requests=[], rollouts=[]
    )


def _add_dead_letters(fleet: FleetStatus, more: Mapping[str, int]) -> None:
    if more:
        counts = fleet.setdefault("dead_letters", {})
        for code, count in more.items():
            counts[code] = counts.get(code, 0) + count


def merge(fleets: Sequence[FleetStatus], now_ms: int) -> FleetStatus:
    """Join fleets into one; what two processes report, while it moves between them, is taken from the later one.

    That is a model's later watermark and a partition's larger count: its totals are the owner's alone.
    """
    merged = empty_fleet(now_ms)
    models: dict[str, ModelStatus] = {}
    partitions: dict[tuple[str, int], Conservation] = {}
    for fleet in fleets:
        merged["roles"].extend(fleet["roles"])
        for count in fleet["conservation"]:
            at = (count["topic"], count["partition"])
            # Counts only grow, so the larger is the later.
            if at not in partitions or count["received"] > partitions[at]["received"]:
                partitions[at] = count
        merged["requests"].extend(fleet["requests"])
        merged["rollouts"].extend(fleet["rollouts"])
        _add_dead_letters(merged, fleet.get("dead_letters", {}))
        for model in fleet["models"]:
            known = models.get(model["model"])
            # While a partition changes hands both owners report the model; the older one no longer reads.
            if known is None or (model["watermark"] or 0) > (known["watermark"] or 0):
                models[model["model"]] = model
    # The roles of one installation read one file: what one refuses the others do, or begin to at their next start.
    refused = {one["model"]: one for fleet in fleets for one in fleet.get("refused", ())}
    if refused:
        merged["refused"] = [refused[name] for name in sorted(refused)]
    merged["models"] = [models[name] for name in sorted(models)]
    merged["conservation"] = [partitions[at] for at in sorted(partitions)]
    merged["requests"].sort(key=lambda r: -r["created"])
    merged["rollouts"].sort(key=lambda r: r["model"])
    return merged


def brief(model: ModelStatus) -> ModelStatus:
    """Return a model without the plots' data of its subjects and performance."""
    short = model.copy()
    short["subjects"] = [_without_plots(subject) for subject in model["subjects"]]
    if "performance" in model:
        short["performance"] = [_without_plots(measure) for measure in model["performance"]]
    return short


def _without_plots(entry: Any) -> Any:
    return {key: value for key, value in entry.items() if key not in {"cells", "series"}}


def derived_samples(fleet: FleetStatus, known: Iterable[Sample]) -> list[Sample]:
    """Return the gauges that follow from the status (readiness, states, performance) and that no stage hands over."""
    seen = {sample.metric for sample in known}
    roles = [role["role"] for role in fleet["roles"]]
    samples = [Sample("stationkeeper_role_ready", (role["role"],), float(role["ready"])) for role in fleet["roles"]]
    samples += [Sample("stationkeeper_build_info", (installed_version(), role), 1.0) for role in roles]
    for model in fleet["models"]:
        name = model["model"]
        samples.append(Sample("stationkeeper_model_state", (name,), STATE_NUMBER[SubjectState(model["state"])]))
        # By the clock of a replay nothing is ever late, so no age means that it stands still.
        if model.get("clock", "wall") == "wall":
            stale = max(STALE_PANES * model["pane_ms"], STALE_AT_LEAST_MS) / 1_000
            samples.append(Sample("stationkeeper_stale_after_seconds", (name,), stale))
        # All states, also those with no subject: a series that ends keeps its last value on a dashboard for five
        # minutes.
        counts = dict.fromkeys(SubjectState, 0)
        for subject in model["subjects"]:
            counts[SubjectState(subject["state"])] += 1
        samples += [Sample("stationkeeper_subjects", (name, state.value), n) for state, n in counts.items()]
        samples += _performance_samples(model)
    # What a stage hands over is exact to its commit; this is only derived from it.
    return [sample for sample in samples if sample.metric not in seen]


def _performance_samples(model: ModelStatus) -> list[Sample]:
    """Return the performance and label completeness that the status knows; what it does not know has no series."""
    samples = []
    for measure in model.get("performance", []):
        labels = (model["model"], measure["version"], measure["segment"], measure["measure"])
        if "value" in measure:
            metric = "ratio" if measure.get("share", True) else "amount"
            samples.append(Sample(f"stationkeeper_performance_{metric}", labels, measure["value"]))
        if "estimated" in measure:
            samples.append(Sample("stationkeeper_performance_estimate_ratio", labels, measure["estimated"]))
        if "estimate_error" in measure:
            samples.append(Sample("stationkeeper_performance_estimate_error_ratio", labels, measure["estimate_error"]))
        if "estimate_labels" in measure:
            samples.append(Sample("stationkeeper_performance_estimate_labels", labels, measure["estimate_labels"]))
    completeness = model.get("labels", {}).get("completeness")
    if completeness is not None:
        samples.append(Sample("stationkeeper_label_completeness_ratio", (model["model"],), completeness))
    return samples


@cache
def installed_version() -> str:
    """Return the version of the distribution, ``unknown`` where the code runs uninstalled."""
    try:
        return version("stationkeeper")
    except PackageNotFoundError:
        return "unknown"


@dataclass(slots=True)
class _Answer:
    fleet: FleetStatus
    at: float


class _NotUnderstood(ValueError):
    """A peer answered, and no page could show it."""


# How a peer fails to answer: away, no HTTP, cut off in the middle, or something else than a role's status.
_UNANSWERED = (OSError, HTTPException, _NotUnderstood)


def _show_model(model: ModelStatus) -> None:
    """Fill the pages of a model, those of its subjects that have plots included."""
    nobody = empty_fleet(0)
    model_page(model, nobody)
    if plotted := [subject for subject in model["subjects"] if "series" in subject or "cells" in subject]:
        subject_page(model, plotted, nobody)


class PeerRoles:
    """Other processes of the loop, asked over HTTP; one that does not answer is shown as such and never as healthy.

    ``urls`` maps a name (monitor, retrain, deploy) to a base address. Answers are kept for a second, so that many
    readers of a page cost one question; a peer is given one second to answer. ``token`` is what the peers ask of their
    callers, ``context`` how their certificates are checked.
    """

    def __init__(
        self, urls: Mapping[str, str], *, token: str | None = None, context: ssl.SSLContext | None = None
    ) -> None:
        self._headers = {} if token is None else {"authorization": f"Bearer {token}"}
        self._opener = urllib.request.build_opener(_NoRedirects(), HTTPHandler(), HTTPSHandler(context=context))
        for name, url in urls.items():
            if not url.startswith(("http://", "https://")):
                raise ValueError(f"peer {name}: {url!r} is not an address; write http://host:port")
        self._urls = dict(urls)
        self._answers: dict[str, _Answer] = {}
        self._lock = threading.Lock()

    def fleets(self, now_ms: int) -> list[FleetStatus]:
        """Return the status of every peer, asked at the same time."""
        if not self._urls:
            return []
        # One question at a time: a second page waits for the answer of the first instead of asking again.
        with self._lock, ThreadPoolExecutor(len(self._urls)) as pool:
            return list(pool.map(lambda name: self._fleet(name, now_ms), self._urls))

    def model(self, name: str) -> ModelStatus | None:
        """Return a model with its plots' data from the peer that knows it."""
        for url in self._urls.values():
            with contextlib.suppress(*_UNANSWERED):
                path = f"/api/v1/models/{urllib.parse.quote(name, safe='')}?scope=own"
                found: ModelStatus = self._get(url, path, "model", _show_model)
                if found["model"] == name:
                    return found
        return None

    def _fleet(self, name: str, now_ms: int) -> FleetStatus:
        answer = self._answers.get(name)
        if answer is None or time.monotonic() - answer.at > PEER_FRESH_S:
            answer = _Answer(self._ask(name, now_ms), time.monotonic())
            self._answers[name] = answer
        return answer.fleet

    def _ask(self, name: str, now_ms: int) -> FleetStatus:
        try:
            found: FleetStatus = self._get(self._urls[name], "/api/v1/status?scope=own", "fleet", fleet_page)
            return found
        except _UNANSWERED as error:
            fleet = empty_fleet(now_ms)
            why = repr(error) if isinstance(error, HTTPException) else getattr(error, "reason", error)
            said = "answered" if isinstance(error, _NotUnderstood) else "did not answer"
            reason = masked(f"{said} at {self._urls[name]}: {why}")
            fleet["roles"].append(RoleHealth(role=name, live=False, ready=False, reasons=[reason]))
            return fleet

    def _get(self, url: str, path: str, kind: Literal["fleet", "model"], show: Callable[[Any], object]) -> Any:
        asked = urllib.request.Request(url.rstrip("/") + path, headers=self._headers)  # noqa: S310 - checked above
        with self._opener.open(asked, timeout=PEER_TIMEOUT_S) as response:
            answer = response.read(_MOST_BYTES)
            if response.length:
                # Asked for so many bytes it returns the fewer that came, without a word.
                raise IncompleteRead(answer, response.length)
        try:
            found = understood(answer, kind)
            # Each field may be right and no page could show them together: a series with more times than values, a
            # time in the year 40 000. It would take the pages of all others with it.
            show(found)
        # Of any kind: whatever the answer leads to, the peer alone is shown by it.
        except Exception as error:
            why = f"{type(error).__name__}: {error}"[:_MOST_WORDS]
            raise _NotUnderstood(f"what no role of this version says ({why})") from error
        return found


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: the token is for the peer, and for nobody that it names."""

    def redirect_request(self, *_: Any) -> None:
        return None


class Fleet:
    """The roles of this process and its peers, as the pages and the API read them."""

    def __init__(
        self, views: Sequence[RoleView], peers: PeerRoles | None = None, refused: Sequence[RefusedModel] = ()
    ) -> None:
        self.views, self.refused = tuple(views), tuple(refused)
        self._peers = peers or PeerRoles({})

    def own(self) -> FleetStatus:
        """Return what the roles of this process know."""
        fleet = own_status(self.views, _now_ms())
        if self.refused:
            fleet["refused"] = [ModelRefusal(model=one.name, reason=one.why) for one in self.refused]
        return fleet

    def whole(self) -> FleetStatus:
        """Return what this process and its peers know."""
        now_ms = _now_ms()
        return merge([self.own(), *self._peers.fleets(now_ms)], now_ms)

    def model(self, name: str, *, own: bool = False) -> ModelStatus | None:
        """Return one model with the data of its plots, from here or from the peer that judges it."""
        here = {model["model"]: model for model in self.own()["models"]}
        if name in here:
            return here[name]
        return None if own else self._peers.model(name)

    def samples(self) -> list[Sample]:
        """Return the gauges that this process can derive for its own roles."""
        known = (sample for view in self.views for sample in fresh_samples(view))
        return [*derived_samples(self.own(), known), *refusal_samples(self.refused)]


def refusal_samples(refused: Iterable[RefusedModel]) -> list[Sample]:
    """Return a sample for each model whose entry in the configuration is refused."""
    return [Sample("stationkeeper_model_refused", (one.name,), 1.0) for one in refused]


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
