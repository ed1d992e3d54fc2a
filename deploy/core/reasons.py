"""The closed list of reasons for what a rollout does; each is a sentence that its numbers complete."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Reason(StrEnum):
    """Why a rollout moved, waited or was refused."""

    ADOPTED = "adopted"
    STARTED = "started"
    STEP_PASSED = "step_passed"
    SMALL_TRAFFIC = "small_traffic"
    RESUMED = "resumed"
    PAUSED = "paused"
    RESUMED_BY = "resumed_by"
    WEIGHT_NOT_SEEN = "weight_not_seen"
    TOO_FEW_ROWS = "too_few_rows"
    TOO_FEW_LABELS = "too_few_labels"
    TOO_FEW_ENTITIES = "too_few_entities"
    STEP_RUNNING = "step_running"
    NOT_YET_NONINFERIOR = "not_yet_noninferior"
    HARM = "harm"
    QUERY_FAILED = "query_failed"
    QUERY_WAITED = "query_waited"
    SHARE_MISMATCH = "share_mismatch"
    DATA_QUALITY = "data_quality"
    NOT_COMPARED = "not_compared"
    CATCHING_UP = "catching_up"
    TIMEOUT = "timeout"
    NOTHING_TO_SHOW = "nothing_to_show"
    NONINFERIOR = "noninferior"
    RISK_ACCEPTED = "risk_accepted"
    AWAITING_APPROVAL = "awaiting_approval"
    MANY_FLIPS = "many_flips"
    APPROVED = "approved"
    REJECTED = "rejected"
    MANUAL = "manual"
    ON_PROBATION = "on_probation"
    LABELS_NOT_RIPE = "labels_not_ripe"
    PROBATION_TIMEOUT = "probation_timeout"
    CONFIRMED = "confirmed"
    CONFIRMED_BY_LABELS = "confirmed_by_labels"
    QUEUED = "queued"
    SUPERSEDED = "superseded"
    GATE_FAILED = "gate_failed"
    NO_CHAMPION = "no_champion"
    STALE_CHAMPION = "stale_champion"
    ALREADY_CHAMPION = "already_champion"
    NOT_CONFIGURED = "not_configured"
    UNKNOWN_ROLLOUT = "unknown_rollout"
    NOT_WAITING = "not_waiting"
    NOT_LOADED = "not_loaded"
    UNKNOWN_ORIGIN = "unknown_origin"
    AWAITING_REGISTRY = "awaiting_registry"
    AWAITING_MINUTE = "awaiting_minute"
    ENTRY_REFUSED = "entry_refused"
    PAST_DEADLINE = "past_deadline"


REASON_TEXT: dict[Reason, str] = {
    Reason.ADOPTED: "version {version} was adopted as the first champion by {by}",
    Reason.STARTED: "candidate {candidate} passed the gate; the canary starts at {weight:.2%}",
    Reason.STEP_PASSED: "{rows} canary rows in {minutes:.0f} minutes without harm; the weight rises to {weight:.2%}",
    Reason.SMALL_TRAFFIC: "{exposed:.0f} canary rows a step are at most {needed}; the weight rises to {weight:.2%}",
    Reason.RESUMED: "what held the rollout is over; the step at {weight:.2%} starts again",
    Reason.PAUSED: "{by} paused the rollout at {weight:.2%}, harm still rolls back and the deadline runs: {note}",
    Reason.RESUMED_BY: "{by} resumed the rollout, the step at {weight:.2%} starts again: {note}",
    Reason.WEIGHT_NOT_SEEN: "the closed minutes do not yet show the canary at {weight:.2%}",
    Reason.TOO_FEW_ROWS: "{rows} of {needed} canary rows that are waited for",
    Reason.TOO_FEW_LABELS: "{labels} of {needed} labelled canary rows",
    Reason.TOO_FEW_ENTITIES: (
        "{guardrail}: about {entities:.0f} entities send most rows, too few to tell a good canary from lucky ones; the "
        "weight stays at {weight:.2%} until more come"
    ),
    Reason.STEP_RUNNING: "{minutes:.0f} of {needed:.0f} minutes at {weight:.2%}, {rows} canary rows, no harm",
    Reason.NOT_YET_NONINFERIOR: (
        "{guardrail}: E = {e:.3g} of {limit:.3g} for a ratio below {margin:g}; "
        "a canary twice as bad would look this good in {risk:.0%}{why}"
    ),
    Reason.HARM: "{guardrail}: E = {e:.3g} reached {limit:.3g} against a ratio of at most {margin:g} (seen: {ratio})",
    Reason.QUERY_FAILED: "query {query}: {said} where {bounds} is wanted, {failed} times in a row",
    Reason.QUERY_WAITED: "query {query} said {outcome} ({said}): the weight stays until it is Successful in this step",
    Reason.SHARE_MISMATCH: "the canary got {seen:.2%} of the rows, not {weight:.2%} (E = {e:.3g}): cannot compare",
    Reason.DATA_QUALITY: "open data-quality incident {incident}: broken input says nothing about the canary",
    Reason.NOT_COMPARED: (
        "no closed minute holds rows of both arms (champion {champion}, canary {canary}); versions seen: {seen}"
    ),
    Reason.CATCHING_UP: "the closed minutes are being read from the log; ask again",
    Reason.TIMEOUT: "no answer after {minutes:.0f} minutes; could not measure is not success",
    Reason.NOTHING_TO_SHOW: "no guardrail acts, so nothing can be shown: set one to roll_back, or promote by hand",
    Reason.NONINFERIOR: (
        "no worse than its margin in {guardrails}: least {guardrail}, E = {e:.3g} reached {limit:.3g} for a ratio "
        "below {margin:g}; {rows} canary rows"
    ),
    Reason.RISK_ACCEPTED: "{by} promotes before the evidence and accepts the risk: {risk}; {note}",
    Reason.AWAITING_APPROVAL: "a person must approve candidate {candidate}",
    Reason.MANY_FLIPS: (
        "a person must approve candidate {candidate}: it may change {limit:.2%} of the logged decisions (most_flips); "
        "{shadow}"
    ),
    Reason.APPROVED: "{by} approved candidate {candidate}; the canary starts at {weight:.2%}",
    Reason.REJECTED: "{by} rejected candidate {candidate}: {note}",
    Reason.MANUAL: "{by} rolled back to version {version}: {note}",
    Reason.ON_PROBATION: "{rows} of {needed} rows and {minutes:.0f} of {wanted:.0f} minutes on probation",
    Reason.LABELS_NOT_RIPE: (
        "{labels} canary labels: E = {e:.3g} of {limit:.3g} for wrong decisions below {margin:g} times the old "
        "champion's"
    ),
    Reason.PROBATION_TIMEOUT: (
        "after {minutes:.0f} minutes on probation {labels} canary labels, E = {e:.3g} of {limit:.3g} for wrong "
        "decisions below {margin:g} times the old champion's: could not measure is not success"
    ),
    Reason.CONFIRMED: "{rows} rows on probation without harm; no labels are expected",
    Reason.CONFIRMED_BY_LABELS: (
        "{labels} canary labels: E = {e:.3g} reached {limit:.3g}, wrong decisions below {margin:g} times the old "
        "champion's"
    ),
    Reason.QUEUED: "candidate {candidate} waits for the rollout of {canary} to end",
    Reason.SUPERSEDED: "candidate {newer} is newer",
    Reason.GATE_FAILED: "the gate said {gate}: {gate_reason}",
    Reason.NO_CHAMPION: "model {model} has no champion; first run stationkeeper deployments adopt {model} VERSION",
    Reason.STALE_CHAMPION: "the gate compared it with version {compared}, the champion is {champion}; train again",
    Reason.ALREADY_CHAMPION: "version {version} is the champion already",
    Reason.NOT_CONFIGURED: "model {model} is not configured here; add it under models:",
    Reason.UNKNOWN_ROLLOUT: "{id} names no rollout of {model}; name one of {known}",
    Reason.NOT_WAITING: "the rollout is {phase}: there is nothing to {decision}",
    Reason.NOT_LOADED: "the serving target cannot load version {version}: {error}",
    Reason.UNKNOWN_ORIGIN: (
        "the candidate names request {request} and candidate {candidate}, the registry's version {version} carries "
        "{found_request} and {found_candidate}: let retrain make the version"
    ),
    Reason.ENTRY_REFUSED: "{what} until the entry models.{model} of the configuration is mended",
    Reason.PAST_DEADLINE: (
        "max_duration is over and on_timeout is hold, so there is nothing to {decision}: promote it and accept the "
        "risk, or roll it back"
    ),
    Reason.AWAITING_MINUTE: (
        "candidate {candidate} waits for the first closed minute of predictions: before it the stream has no time"
    ),
    Reason.AWAITING_REGISTRY: "candidate {candidate} waits until the registry says who made version {version}",
}


class Uncounted(StrEnum):
    """Why closed minutes do not count towards a step, or show only one arm.

    Minutes of one arm compare nothing, but their time and rows count: small traffic leaves the canary most minutes
    without a row, and a ramp that waited for them would not end. What minutes that do not count show of the arms is
    weighed all the same.
    """

    WEIGHT_NOT_SEEN = "weight_not_seen"
    NO_CANARY_ROWS = "no_canary_rows"
    NO_CHAMPION_ROWS = "no_champion_rows"
    RESTARTED = "restarted"


UNCOUNTED_TEXT: dict[Uncounted, str] = {
    Uncounted.WEIGHT_NOT_SEEN: "traffic did not show the weight yet",
    Uncounted.NO_CANARY_ROWS: "the canary answered nobody (nothing to compare, their time counts)",
    Uncounted.NO_CHAMPION_ROWS: "the champion answered nobody (nothing to compare, their time and rows count)",
    Uncounted.RESTARTED: "before the step started again, after a hold, a pause or a lapsed lease",
}


@dataclass(frozen=True, slots=True)
class Because:
    """A reason with its numbers; ``text`` is the sentence, ``evidence`` what an audit record keeps."""

    reason: Reason
    numbers: dict[str, Any]

    @property
    def text(self) -> str:
        """Return the sentence; raises ``KeyError`` where a number is missing."""
        return REASON_TEXT[self.reason].format(**self.numbers)

    @property
    def evidence(self) -> dict[str, Any]:
        """Return the reason's code and numbers."""
        return {"code": self.reason.value, **self.numbers}


def because(reason: Reason, **numbers: Any) -> Because:
    """Return a reason with its numbers."""
    return Because(reason, numbers)
