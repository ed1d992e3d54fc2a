"""What every notifier must do, as a suite that a third party runs: ``check_notifier(make, received)``."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime

from stationkeeper.contracts.plugins import NotConforming
from stationkeeper.notify.notifier import Notice, Notifier, Told
from stationkeeper.streams.errors import Retryable

# What breaks a body that is put together by hand: quotes, a line break, the words of templates, other scripts.
_HOSTILE = '"it\'s" {{ 1 }} %s <b>\n\\u0000 größer 価格 \N{PILE OF POO}'


def check_notifier(
    make: Callable[[], Notifier],
    received: Callable[[], Sequence[str]],
    away: Callable[[], AbstractContextManager[object]] | None = None,
) -> None:
    """Have a notifier tell one notice of each kind, one of hostile text, and one again after a restart.

    ``make`` returns a new object that tells the same receiver, ``received`` the texts that have arrived there so far.
    ``away`` is entered to make the receiver unreachable. Raises ``NotConforming`` with a sentence for each promise of
    `Notifier` that is broken.
    """
    found = [*_each(make, received), *_again(make, received)]
    if away is not None:
        with away():
            found += _away(make)
    if found:
        raise NotConforming("; ".join(found))


def _notice(name: str, told: Told = Told.PAGE, text: str = "x moved") -> Notice:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return Notice(id=f"conformance-{name}", told=told, time=now, model="conformance", version="1", text=text)


def _each(make: Callable[[], Notifier], received: Callable[[], Sequence[str]]) -> Iterator[str]:
    notifier = make()
    for notice in [*(_notice(told.value, told) for told in Told), _notice("hostile", text=_HOSTILE)]:
        before = len(received())
        try:
            notifier.notify(notice)
        except Exception as error:  # noqa: BLE001 - the suite says what it was
            yield f"{notice.id} is not told while the receiver is there: {error!r}"
            continue
        # Returned is taken: what is only queued would be lost with the process, after its offset was committed.
        if not any(notice.id in text for text in received()[before:]):
            yield f"notify returned and {notice.id} had not arrived, or came without its id"


def _again(make: Callable[[], Notifier], received: Callable[[], Sequence[str]]) -> Iterator[str]:
    before = len(received())
    for notifier in (make(), make()):
        notifier.notify(_notice("again"))
    if sum("conformance-again" in text for text in received()[before:]) != 2:
        yield "a notice told again after a restart did not arrive under the same id"


def _away(make: Callable[[], Notifier]) -> Iterator[str]:
    try:
        make().notify(_notice("away"))
    except Retryable:
        return
    except Exception as error:  # noqa: BLE001 - the suite says what it was
        yield f"while the receiver is away notify raises {error!r}; raise Retryable, so that it is told later"
        return
    yield "while the receiver is away notify returns as if it had been told"
