"""The loop as a picture: the stages of the cure in order, the current one lit, with when and why."""

from dataclasses import dataclass
from typing import Literal

from stationkeeper.contracts.model_status import IncidentStatus, ModelStatus
from stationkeeper.contracts.status import FleetStatus, RequestStatus, RolloutStatus
from stationkeeper.page.frame import time_tag
from stationkeeper.page.markup import Html, tag
from stationkeeper.page.words import OUTCOME_WORDS, percent, sentence, why

NodeState = Literal["done", "current", "ahead", "stopped", "waiting"]
NODES = (
    ("watch", "Watch"),
    ("decide", "Decide"),
    ("request", "Request"),
    ("snapshot", "Snapshot"),
    ("train", "Train"),
    ("gate", "Gate"),
    ("canary", "Canary"),
    ("check", "Check the cure"),
)
_INDEX = {key: i for i, (key, _) in enumerate(NODES)}
_OF_STAGE = {
    "planned": "request",
    "waiting": "request",
    "snapshot": "snapshot",
    "training": "train",
    "gate": "gate",
    "registering": "gate",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where a model is in the loop: the lit node, whether it is stuck or waits for data there, and a sentence."""

    node: str
    sentence: str
    stopped: bool = False
    waiting: bool = False
    since: int | None = None

    @property
    def resting(self) -> bool:
        """Return whether nothing is going on but watching."""
        return self.node == "watch"


def open_incidents(model: ModelStatus) -> list[IncidentStatus]:
    """Return the incidents that are not closed, those that page first, then the oldest."""
    # The loudest first: the first card is the one that woke somebody.
    loudness = {"page": 0, "warn": 1, "inform": 2}
    live = [incident for incident in model["incidents"] if "closed" not in incident]
    return sorted(live, key=lambda i: (loudness[i["level"]], i["opened"]))


def by_serving(model: ModelStatus) -> tuple[list[IncidentStatus], list[IncidentStatus]]:
    """Return the open incidents of the versions that serve, and those that a version before has left open."""
    live = open_incidents(model)
    # Without a known champion nobody can say which version is an earlier one.
    serving = {model["champion"], model.get("canary")} if model["champion"] else {i["version"] for i in live}
    return [i for i in live if i["version"] in serving], [i for i in live if i["version"] not in serving]


def rollout_of(model: str, fleet: FleetStatus) -> RolloutStatus | None:
    """Return the rollout record of a model, if one was seen."""
    return next((rollout for rollout in fleet["rollouts"] if rollout["model"] == model), None)


def request_of(model: str, fleet: FleetStatus) -> RequestStatus | None:
    """Return the newest request of a model, if one was seen."""
    # `merge` sorts requests by age, the newest first.
    return next((request for request in fleet["requests"] if request["model"] == model), None)


def position(model: ModelStatus, fleet: FleetStatus) -> Position:
    """Return where the loop stands for a model: what is furthest along and not ended decides."""
    rollout, request = rollout_of(model["model"], fleet), request_of(model["model"], fleet)
    incidents, left = by_serving(model)
    # What moves traffic or trains is told before any incident: it is where a person may have to act now.
    return _under_way(rollout, request) or _at_rest(model, incidents, left, fleet)


def incident_position(incident: IncidentStatus, fleet: FleetStatus) -> Position:
    """Return where the loop stands for one incident: for its own request and rollout, whatever others do."""
    request, asked = asked_for(incident, fleet), incident.get("request")
    rollout = next((r for r in fleet["rollouts"] if asked and r.get("request") == asked), None)
    return _under_way(rollout, request) or _without_request(incident, request)


def asked_for(incident: IncidentStatus, fleet: FleetStatus) -> RequestStatus | None:
    """Return an incident's request, if one was seen."""
    return next((request for request in fleet["requests"] if request["id"] == incident.get("request")), None)


def _under_way(rollout: RolloutStatus | None, request: RequestStatus | None) -> Position | None:
    # The rollout comes before the request: a request that led to a canary is done, and would be told as the end.
    if rollout is not None and rollout["phase"] in {"canary", "hold", "awaiting_approval"}:
        weight = f"Version {rollout.get('canary', '?')} gets {percent(rollout['weight_bp'] / 10_000)} of the traffic"
        held = {"hold": "; held", "awaiting_approval": "; waiting for a person's approval"}.get(rollout["phase"], "")
        text = f"{weight}{held}. {sentence(rollout['reason'])}"
        return Position(node="canary", sentence=text, stopped=bool(held), since=rollout["since"])
    if rollout is not None and rollout["phase"] == "probation":
        text = f"Version {rollout['champion']} was promoted; its cure is being checked. {sentence(rollout['reason'])}"
        return Position(node="check", sentence=text, since=rollout["since"])
    if request is not None and request["stage"] != "done":
        held_up = request["stage"] == "waiting"
        text = sentence(request["reason"])
        return Position(node=_OF_STAGE[request["stage"]], sentence=text, stopped=held_up, since=request["created"])
    return None


def _at_rest(
    model: ModelStatus, incidents: list[IncidentStatus], left: list[IncidentStatus], fleet: FleetStatus
) -> Position:
    if incidents:
        # The one that is furthest along: another may be held back because of it.
        first = min(incidents, key=lambda incident: "request" not in incident)
        return _without_request(first, asked_for(first, fleet))
    # Not "watching": a model without data or reference would look guarded that nobody guards.
    if model["state"] == "unknown":
        return Position(node="watch", sentence=f"Not able to watch yet. {sentence(model['reason'])}", waiting=True)
    # What led to the promotion stays open until the new version has proved itself: nobody has to act for it.
    if left and model["state"] == "recovering":
        return Position(node="check", sentence=why(model["reason"], ""))
    return Position(node="watch", sentence="Watching; nothing is being repaired.")


def _without_request(incident: IncidentStatus, request: RequestStatus | None) -> Position:
    if request is not None:
        ended = OUTCOME_WORDS.get(request.get("outcome", ""), "ended")
        node = "gate" if "gate" in request else "request"
        text = sentence(f"The retrain request {ended}: {request['reason']}")
        return Position(node=node, sentence=text, stopped=True, since=request["created"])
    # Published and not yet seen by the trainer: the judge wrote it, and the trainer has not reported a request so far.
    outcome = incident.get("request_outcome")
    if outcome is None:
        text = sentence(incident.get("request_reason", "No retrain was asked for"))
        return Position(node="decide", sentence=text, stopped=True, since=incident["opened"])
    text = f"The retrain request was {OUTCOME_WORDS[outcome]}. {why(incident.get('request_reason', ''), outcome)}"
    return Position(node="request", sentence=text.strip(), stopped=outcome != "published", since=incident["opened"])


def _lit_state(where: Position) -> NodeState:
    return "stopped" if where.stopped else "waiting" if where.waiting else "current"


def loop_picture(where: Position) -> Html:
    """Return the stages as a list that wraps on a narrow screen; exactly one is the current step."""
    lit = _INDEX[where.node]
    items = []
    for i, (key, words) in enumerate(NODES):
        state: NodeState = "done" if i < lit else "ahead" if i > lit else _lit_state(where)
        text = {
            "done": "done: ",
            "ahead": "ahead: ",
            "stopped": "stopped here: ",
            "waiting": "waiting: ",
            "current": "now: ",
        }[state]
        label = [tag("span", text, class_="hidden"), words]
        items.append(tag("li", label, class_=f"node {state} {key}", aria_current="step" if i == lit else None))
    since = [" Since ", time_tag(where.since), "."] if where.since is not None and not where.resting else None
    return tag(
        "div",
        tag("ol", items, class_="loop", aria_label="The loop"),
        tag("p", where.sentence, since),
        class_="loop-box",
    )
