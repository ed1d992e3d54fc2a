"""The two notifiers that ship: a notice posted as JSON to a webhook, or as a CloudEvent of specification 1.0.

``HTTPS_PROXY``, ``HTTP_PROXY`` and ``NO_PROXY`` are obeyed as at the start: chat systems and event buses stand outside.
A redirect is not followed, because the token would go with it to an address that nobody configured.
"""

import json
import re
import ssl
import urllib.request
from contextlib import suppress
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.parse import urlsplit

from stationkeeper.contracts.masking import remember
from stationkeeper.contracts.settings import Credential
from stationkeeper.notify.notifier import Notice, NotifierSettings
from stationkeeper.streams.deadline import HTTPHandler, HTTPSHandler
from stationkeeper.streams.errors import Retryable

# By these a receiver says that it will never take this body; all else (away, busy, a key that was changed) may pass.
_NEVER = frozenset({400, 413, 415, 422})
# Characters of a refusal that are shown: chat systems answer with one word such as `invalid_payload`, gateways with a
# page, of which two lines of the log are enough.
_SHOWN = 200


# What raises on the way is never this notice's fault, as address and token were read before: a ``ValueError`` is a
# proxy's address that is none, or a length in the answer that is no number.
_ON_THE_WAY = (OSError, HTTPException, ValueError)


def _host(url: str) -> tuple[str, str]:
    """Return an address's host and what comes behind it; raises ``ValueError`` where nothing can be posted there."""
    # Splitting, reading the port and writing the host for the resolver each raise where they are wrong.
    with suppress(ValueError):
        parts = urlsplit(url)
        host = parts.hostname or ""
        usable = host.encode("idna") and parts.port != 0 and parts.scheme in {"http", "https"}
        # Of the whole, because splitting drops line breaks and tabs.
        if usable and parts.username is None and re.fullmatch("[!-~]+", url):
            return host, parts.path + (f"?{parts.query}" if parts.query else "")
    # The address itself is not shown: in a chat system whoever knows it may write there.
    raise ValueError(
        "notifiers: url is no address: write https://HOST:PORT/PATH without spaces, other letters than ASCII as %XX"
        " (of a host as xn--...), a port of 1 to 65535, and a secret as token"
    )


def _opener(settings: NotifierSettings) -> urllib.request.OpenerDirector:
    # Put together here: the library's own follows redirects, and reads where to before it can be kept from it.
    opener = urllib.request.OpenerDirector()
    ca_file = settings.ca_file
    context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        HTTPHandler(),
        HTTPSHandler(context=context),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


def _said(error: HTTPError) -> str:
    """Return how a refusal begins; one that breaks off takes nothing from what its status says."""
    with error:
        try:
            return error.read(_SHOWN).decode(errors="replace")
        except _ON_THE_WAY as broken:
            return f"(and breaks off: {type(broken).__name__})"


class Webhook:
    """Posts a notice as it is; 2xx is taken, 400, 413, 415 and 422 give this notice up, all else is tried again."""

    content_type = "application/json"

    def __init__(self, settings: NotifierSettings) -> None:
        """Raise ``ValueError`` where the address is none, ``SettingError`` where a secret cannot be read."""
        given = settings.url
        self._url = given.read("notifiers.url") if isinstance(given, Credential) else given or ""
        host, rest = _host(self._url)
        if isinstance(given, Credential):
            remember(rest)
        self._who = f"the receiver at {host}"
        self._timeout = settings.timeout / 1_000
        self._headers = {"Content-Type": self.content_type}
        if settings.token is not None:
            token = settings.token.read("notifiers.token")
            if re.fullmatch("[!-~]+", token) is None:
                raise ValueError("notifiers: token has a space, line break or letter beyond ASCII: write it again")
            self._headers["Authorization"] = f"Bearer {token}"
        self._opener = _opener(settings)

    def body(self, notice: Notice) -> bytes:
        """Return what is posted."""
        return notice.encode()

    def notify(self, notice: Notice) -> None:
        """Post it; raises ``Retryable`` where nobody took it, ``ValueError`` where this one is refused."""
        asked = urllib.request.Request(self._url, self.body(notice), self._headers, method="POST")  # noqa: S310 - checked
        try:
            # The status is the receiver's word: whose body hangs has taken it, and must not get it every few seconds.
            self._opener.open(asked, timeout=self._timeout).close()
        except HTTPError as error:
            said = _said(error)
            if error.code in _NEVER:
                raise ValueError(f"{self._who} refuses it with {error.code}: {said}") from None
            raise Retryable(f"{self._who} answers with {error.code}: {said}") from None
        except _ON_THE_WAY as error:
            raise Retryable(f"{self._who} does not answer: {error}") from None


class CloudEvents(Webhook):
    """Posts a notice as a CloudEvent 1.0 in structured mode; ``source`` and ``id`` together name it for ever."""

    content_type = "application/cloudevents+json; charset=utf-8"

    def body(self, notice: Notice) -> bytes:
        """Return the event with the notice as its data; ``type`` is ``stationkeeper.`` and what is told."""
        event = {
            "specversion": "1.0",
            "id": notice.id,
            "source": f"/stationkeeper/models/{notice.model}",
            "type": f"stationkeeper.{notice.told.value}",
            "subject": notice.incident or notice.request or notice.version or notice.model,
            "time": notice.time.isoformat(),
            "datacontenttype": "application/json",
            "data": json.loads(notice.encode()),
        }
        return json.dumps(event).encode()
