"""What is told to other systems, whom, and how a notifier is found by its name in the configuration."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, ClassVar, Protocol, Self, runtime_checkable

from pydantic import AwareDatetime, Field, model_validator

from stationkeeper.contracts.masking import remember_named
from stationkeeper.contracts.messages import Message, SchemaVersion, Text
from stationkeeper.contracts.plugins import PluginGroup, load_plugin
from stationkeeper.contracts.settings import Credential, Duration, Name, Settings


class Told(StrEnum):
    """What can be told: verdicts by their level and kind, requests for retraining, steps of rollouts."""

    PAGE = "page"
    WARN = "warn"
    RECOVERED = "recovered"
    CURE = "cure"
    REQUEST = "request"
    DEPLOYMENT = "deployment"


class Notice(Message):
    """One thing to tell; told again, after a crash or an answer that was lost, it has the same ``id``."""

    schema_name: ClassVar[str] = "notice"
    schema_version: SchemaVersion = 1
    id: Text
    """Of the record that it tells of: a receiver that has seen it drops it."""
    told: Told
    time: AwareDatetime
    """When it was decided, on the declared clock."""
    model: Text
    version: str = ""
    """The version that is meant; of a deployment the one that takes traffic."""
    text: str
    """What happened, as one line for a person; also the word by which chat systems take a message."""
    url: str = ""
    """The page with all the rest, where ``page`` is configured."""
    incident: str = ""
    request: str = ""
    facts: dict[str, Any] = {}
    """Short fields by name: kind, cause, subject, onset, rows, champion, weight. Never an event, nor counts of bins."""


class NotifierSettings(Settings):
    """Whom to tell. ``kind`` is ``webhook``, ``cloudevents``, an installed extension or its import path.

    ``url`` is an address, or where the address is itself a secret (a chat system's) a reference to it. ``token`` is
    sent as a bearer token, ``ca_file`` checks the receiver's certificate (left out the system's do). ``tell`` and
    ``models`` choose; ``page`` is the address under which people open the status page, for links. A notice that could
    not be told within ``expires`` is left out and counted. ``options`` are those of an extension.
    """

    # Longer than any import path; a body that slipped under the key is refused by it.
    kind: Annotated[str, Field(min_length=1, max_length=200)] = "webhook"
    url: str | Credential | None = None
    token: Credential | None = None
    ca_file: Path | None = None
    # Warnings are left out: they have a budget of their own and are for whoever looks, not for whoever is called.
    tell: tuple[Told, ...] = (Told.PAGE, Told.RECOVERED, Told.CURE, Told.REQUEST, Told.DEPLOYMENT)
    models: tuple[Name, ...] | None = None
    page: Annotated[str, Field(pattern="^https?://")] | None = None
    # What chat systems and event buses answer within, many times over; the loop of this notifier waits for it.
    timeout: Annotated[Duration, Field(ge=100)] = 5_000
    # Chosen: a page of the day before is told after an outage of a night; one of last week would call for nothing.
    expires: Annotated[Duration, Field(ge=1_000)] = 24 * 3_600_000
    options: dict[str, str | int | float | bool] = {}

    @model_validator(mode="after")
    def _hide_options(self) -> Self:
        remember_named(self.options)
        return self


@runtime_checkable
class Notifier(Protocol):
    """One receiver. It is built from its ``NotifierSettings`` and called from one thread."""

    def notify(self, notice: Notice) -> None:
        """Tell it, and return once the receiver has taken it.

        Raises ``Retryable`` where the same call may help later: the notice is then told again. After any other error
        this notice is given up, and the next one is told.
        """


def notifier_for(settings: NotifierSettings) -> Notifier:
    """Return the notifier that the configuration names; raises ``PluginError`` or ``ValueError`` saying what to do."""
    made = load_plugin(PluginGroup.NOTIFIERS, settings.kind)(settings)
    if not isinstance(made, Notifier):
        raise ValueError(f"notifiers: {settings.kind} is no notifier: it lacks notify")  # noqa: TRY004 - configuration
    return made
