"""What people's approvals do to a request: who must approve, who may not do so twice, and what lapses without."""

import unicodedata
from collections.abc import Iterable, Iterator

from stationkeeper.contracts.messages import Approval
from stationkeeper.contracts.times import format_duration, to_ms
from stationkeeper.retrain.core.reasons import RequestReason, RequestStage
from stationkeeper.retrain.service.state import RetrainState

# Who says nothing of himself (`--by` without a name) is nobody that can be told from another.
UNNAMED = "unknown"
# A name of spaces alone says no more.
_NOBODY = frozenset({UNNAMED, ""})
# What no font shows though Unicode counts it among letters and marks (Default_Ignorable_Code_Point beyond the controls
# of category C): the grapheme joiner, Hangul's fillers, Khmer's inherent vowels, variation selectors. Without them a
# second "ann" could be typed by mistake, or pasted, that reads as the first.
_SHAPES = frozenset(
    {
        *"\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f",
        *map(chr, range(0xFE00, 0xFE10)),
        *map(chr, range(0xE0100, 0xE01F0)),
    }
)
# Braille without a dot: Unicode has it for a symbol, every font for a space.
_BLANK = "\u2800"
# Alphabets whose letters read alike (a and Cyrillic a, o and Greek omicron): a name in two of them is hardly anybody's.
# Kanji beside kana or Latin is somebody's, and is let through.
_ALIKE = frozenset({"LATIN", "GREEK", "CYRILLIC", "ARMENIAN", "COPTIC", "CHEROKEE", "LISU"})

# What held a request back for its number and not for its content: a person may still ask for it. Budget and cooldown
# come only from the state of older builds; the monitor holds such requests back today.
_REOPENED_BY_APPROVAL = frozenset({RequestReason.BREAKER, RequestReason.BUDGET, RequestReason.COOLDOWN})


def after_pending(state: RetrainState, expires_ms: int, now_ms: int) -> RetrainState | None:
    """Return the state of a request that waits for a person: since when, or that it lapsed; None where nothing is new.

    ``now_ms`` is wall time: people are waited for by their own clock, also where the stream's stands still. What lapses
    trains nothing, so the champion stays.
    """
    if state.reason is not RequestReason.APPROVAL_PENDING or state.stage.final:
        return None
    if not state.pending_since:
        return state.model_copy(update={"pending_since": now_ms})
    if now_ms - state.pending_since < expires_ms:
        return None
    said = f"{', '.join(state.approvers)} alone approved" if state.approvers else "nobody approved"
    why = f"{said} within {format_duration(expires_ms)} (approval_expires); the champion stays"
    return state.enter(RequestStage.REJECTED, RequestReason.APPROVAL_LAPSED, why)


def lapsing(states: Iterable[RetrainState], expires_ms: int, now_ms: int) -> Iterator[RetrainState]:
    """Yield the states of requests that begin to wait for a person, or have waited too long."""
    moved = (after_pending(state, expires_ms, now_ms) for state in states)
    return (state for state in moved if state is not None)


def after_approval(
    state: RetrainState, approval: Approval, champion: str | None, people: int = 1
) -> RetrainState | str:
    """Return the state after an approval message, or in words why it changes nothing; each message counts once.

    ``champion`` is the version that the log names champion now, ``people`` how many different ones must say yes.
    """
    now = f"request {state.id} is {state.words()}"
    # Messages are read again at every start: one from before somebody asked anew was about that other try.
    if approval.decision != "retry" and to_ms(approval.time) <= state.asked:
        return f"{now}: it was asked again since"
    match approval.decision:
        case "reject":
            if state.stage.final:
                return f"{now}: there is nothing to reject"
            return state.enter(RequestStage.REJECTED, RequestReason.REJECTED_BY_PERSON, _signed(approval))
        case "approve":
            return _approved(state, approval, people, now)
        case "retry":
            return _asked_again(state, approval, champion, people, now)
    return f"{approval.decision} is no decision on a request"


def _signed(approval: Approval) -> str:
    return f"{approval.by}: {approval.note}" if approval.note else approval.by


def _who(approval: Approval) -> str:
    # Whom the broker checked, where it did: two names behind one login are one person.
    return (approval.principal or approval.by).strip()


def _typed(approval: Approval) -> tuple[str, ...]:
    """The name typed beside a login, as ``stationkeeper requests`` writes both into ``by``; none without either."""
    name = approval.by.removesuffix(f" (Kafka user {approval.principal})")
    return (name.strip(),) if approval.principal and _folded(name) not in _NOBODY else ()


def _folded(name: str) -> str:
    """A name as it is told from others, so that one person who writes it in two ways is not two.

    Accents composed or not, wide letters, capitals, several spaces and signs that nobody sees make no other name.
    Letters that only look alike do (`l` and `I`, or a name wholly in Cyrillic): nothing but a login proves who it is.
    """
    name = unicodedata.normalize("NFKC", name).replace(_BLANK, " ")
    seen = "".join(one for one in name if one.isspace() or not _unseen(one))
    # Again after folding, which takes some letters apart.
    return unicodedata.normalize("NFKC", " ".join(seen.split()).casefold())


def _unseen(letter: str) -> bool:
    # Joiners and direction marks, controls and letters that no font has; marks that only choose a shape of the letter.
    return unicodedata.category(letter)[0] == "C" or letter in _SHAPES


def _counted(state: RetrainState, approval: Approval) -> bool:
    """Whether one of a message's names is among those that were counted; where it cannot be told, one person."""
    mine, theirs = {_folded(one) for one in (_who(approval), *_typed(approval))}, {*map(_folded, state.approvers)}
    # Names beside two different logins may be alike (`root`); a name without a login is told from no name at all.
    return bool(mine & (theirs if approval.principal else theirs | {*map(_folded, state.typed)}))


def _uncounted(approval: Approval, people: int) -> str:
    """Why a message does not count where several people must be told apart, "" where it does."""
    name = _folded(_who(approval))
    if people == 1:
        return ""
    if name in _NOBODY:
        return f"it needs {people} people by name; say who you are with --by"
    alphabets = sorted({unicodedata.name(one, "").split(" ")[0] for one in name if one.isalpha()} & _ALIKE)
    # Whom the broker checked is one person, however he is spelt.
    if len(alphabets) > 1 and not approval.principal:
        mixed = " and ".join(one.capitalize() for one in alphabets)
        return (
            f"the name {_who(approval)!a} mixes {mixed} letters, which read alike; write it in one alphabet with --by"
        )
    return ""


def _approved(state: RetrainState, approval: Approval, people: int, now: str) -> RetrainState | str:
    pending = state.reason is RequestReason.APPROVAL_PENDING
    suppressed = state.stage is RequestStage.SUPPRESSED and state.reason in _REOPENED_BY_APPROVAL
    # A message counts once: the approvals table is read again at every flush and start.
    if state.approved or not (pending or suppressed):
        again = f"; stationkeeper requests retry {state.id} asks again" if state.stage.final else ""
        return f"{now}: there is nothing to approve{again}"
    who, said = _who(approval), f"approved by {_signed(approval)}"
    if people == 1:
        # Also who said so while the risk was high: one person is enough now.
        return state.enter(RequestStage.PLANNED, RequestReason.ACCEPTED, said, approved=True, approvers=(who,))
    if refused := _uncounted(approval, people):
        return f"{now}: {refused}"
    if _counted(state, approval):
        return f"{now}: {who} has had a say; it needs another person"
    # Older builds let a nameless `retry` count as a person; it does not count here either.
    approvers = (*(one for one in state.approvers if _folded(one) not in _NOBODY), who)
    typed = (*state.typed, *_typed(approval))
    names = " and ".join(approvers)
    if len(approvers) < people:
        why = f"{names} said yes; it needs {people} people"
        return state.enter(RequestStage.WAITING, RequestReason.APPROVAL_PENDING, why, approvers=approvers, typed=typed)
    facts = {"approved": True, "approvers": approvers, "typed": typed}
    return state.enter(RequestStage.PLANNED, RequestReason.ACCEPTED, f"approved by {names}", **facts)


def _asked_again(
    state: RetrainState, approval: Approval, champion: str | None, people: int, now: str
) -> RetrainState | str:
    asked = to_ms(approval.time)
    # By the message's own time, for the same reason: only a later `retry` asks again.
    if not state.stage.final or state.stage is RequestStage.CANDIDATE or asked <= state.asked:
        return f"{now}: there is nothing to ask again"
    if champion is not None and champion != state.request.version:
        return f"{now}: version {state.request.version} is no longer champion, version {champion} is"
    if refused := _uncounted(approval, people):
        return f"{now}: {refused}"
    # Built anew and not copied, so that nothing of the tries before is taken over: snapshot, look and gate begin again.
    fresh = RetrainState(
        request=state.request,
        stage=state.stage,
        reason=state.reason,
        champion=state.champion,
        clock_ms=state.clock_ms,
        history=state.history,
        approved=people == 1,
        # Whoever asks is one of the people, and cannot be the other.
        approvers=(_who(approval),),
        typed=_typed(approval),
        asked=asked,
    )
    if people > 1:
        why = f"asked again by {_signed(approval)}; it needs {people} people"
        return fresh.enter(RequestStage.WAITING, RequestReason.APPROVAL_PENDING, why)
    return fresh.enter(RequestStage.PLANNED, RequestReason.ACCEPTED, f"asked again by {_signed(approval)}")
