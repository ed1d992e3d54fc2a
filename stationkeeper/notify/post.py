"""The two notifiers that ship: a notice posted as JSON to a webhook, or as a CloudEvent of specification 1.0.

``HTTPS_PROXY`` and ``NO_PROXY`` are obeyed: chat systems and event buses stand outside. A redirect is not followed,
because the token would go with it to an address that nobody configured.
"""

import json
import ssl
import urllib.request
from email.message import Message as Headers
from http.client import HTTPException
from typing import IO
from urllib.error import HTTPError
from urllib.parse import urlsplit

from stationkeeper.contracts.masking import remember
from stationkeeper.contracts.settings import Credential
from stationkeeper.notify.notifier import Notice, NotifierSettings
from stationkeeper.streams.errors import Retryable

# By these a receiver says that it will never take this body; all else (away, busy, a key that was changed) may pass.
_NEVER = frozenset({400, 413, 415, 422})
# What of a refusal is shown: chat systems answer with one word such as `invalid_payload`.
_SHOWN = 200


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows nothing, so that a redirect is an answer like any other."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Headers, newurl: str
    ) -> None:
        """Return no other request."""


class Webhook:
    """Posts a notice as it is; 2xx is taken, 400, 413, 415 and 422 give this notice up, all else is tried again."""

    content_type = "application/json"

    def __init__(self, settings: NotifierSettings) -> None:
        """Raise ``ValueError`` where the address is none, ``SettingError`` where a secret cannot be read."""
        given = settings.url
        self._url = given.read("notifiers.url") if isinstance(given, Credential) else given or ""
        parts = urlsplit(self._url)
        # The address itself is not shown: in a chat system whoever knows it may write there.
        if parts.scheme not in {"http", "https"} or parts.hostname is None or parts.username is not None:
            raise ValueError("notifiers: url is no address: write https://HOST/PATH, and a secret as token")
        if isinstance(given, Credential):
            remember(parts.path + (f"?{parts.query}" if parts.query else ""))
        self._who = f"the receiver at {parts.hostname}"
        self._timeout = settings.timeout / 1_000
        self._headers = {"Content-Type": self.content_type}
        if settings.token is not None:
            self._headers["Authorization"] = f"Bearer {settings.token.read('notifiers.token')}"
        handlers: list[urllib.request.BaseHandler] = [_Stay()]
        if parts.scheme == "https":
            ca_file = settings.ca_file
            context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
            handlers.append(urllib.request.HTTPSHandler(context=context))
        self._opener = urllib.request.build_opener(*handlers)

    def body(self, notice: Notice) -> bytes:
        """Return what is posted."""
        return notice.encode()

    def notify(self, notice: Notice) -> None:
        """Post it; raises ``Retryable`` where nobody took it, ``ValueError`` where this one is refused."""
        asked = urllib.request.Request(self._url, self.body(notice), self._headers, method="POST")  # noqa: S310 - checked
        try:
            with self._opener.open(asked, timeout=self._timeout) as answer:
                answer.read(_SHOWN)
        except HTTPError as error:
            with error:
                said = error.read(_SHOWN).decode(errors="replace")
            if error.code in _NEVER:
                raise ValueError(f"{self._who} refuses it with {error.code}: {said}") from None
            raise Retryable(f"{self._who} answers with {error.code}: {said}") from None
        except (OSError, HTTPException) as error:
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
