"""The team's own server as a target: the wanted weights are posted to it, and read back.

    POST {url}          {"model", "epoch", "champion", "canary", "weight_bp", "lease_until"}
                        200 or 204, whatever the body: applied · 409: a later epoch is in force, nothing was changed
    GET  {url}?model=M  {"champion", "canary", "weight_bp"} · 404: not known

A server that loses touch must fall back to the champion at ``lease_until`` (RFC 3339, null without a canary).
"""

import base64
import http.client
import json
import ssl
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import msgspec

from stationkeeper.contracts.masking import masked, remember
from stationkeeper.contracts.messages import Rollout
from stationkeeper.deploy.settings import TargetSettings
from stationkeeper.deploy.targets.target import Abilities, Observation
from stationkeeper.streams.deadline import HTTPConnection, HTTPSConnection
from stationkeeper.streams.errors import Retryable

# What of an answer is read: a real one has a hundred bytes a model, and a wrong address may send gigabytes.
_MOST_BYTES = 4 * 1024 * 1024


class JsonClient:
    """Plain JSON over HTTP, one connection a call; ``who`` names the server in errors, ``where`` its settings."""

    def __init__(self, who: str, settings: TargetSettings, where: str = "targets") -> None:
        parts = urlsplit(settings.url or "")
        if parts.scheme not in {"http", "https"} or parts.hostname is None:
            shown = masked(str(settings.url))
            raise ValueError(f"{where}: {settings.kind}: url {shown!r} is no address; write http://HOST:PORT")
        self._who = f"{who} at {parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"
        self._parts, self._timeout = parts, settings.timeout / 1_000
        self._headers = {"content-type": "application/json"}
        if settings.token is not None:
            self._headers["authorization"] = f"Bearer {settings.token.read(f'{where}.token')}"
        elif parts.username is not None:
            pair = f"{unquote(parts.username)}:{remember(unquote(parts.password or ''))}"
            self._headers["authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        self._context = None
        if parts.scheme == "https":
            ca_file = settings.ca_file
            self._context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))

    @property
    def path(self) -> str:
        """The path of the address, ``/`` where it has none."""
        return self._parts.path or "/"

    def call(self, method: str, path: str, body: Any = None, *, known: frozenset[int] = frozenset()) -> tuple[int, Any]:
        """Return the status and, of a GET, the JSON object that it brings; empty where it brings none.

        Raises ``Retryable`` unless the status is 2xx or one of ``known``, and for a 2xx to GET that is no object.
        """
        host, port, limit = self._parts.hostname or "", self._parts.port, self._timeout
        connection = (
            HTTPConnection(host, port, timeout=limit)
            if self._context is None
            else HTTPSConnection(host, port, timeout=limit, context=self._context)
        )
        try:
            data = None if body is None else json.dumps(body).encode()
            connection.request(method, path, data, self._headers)
            answer = connection.getresponse()
            text = answer.read(_MOST_BYTES)
            found = json.loads(text) if method == "GET" and answer.status // 100 == 2 else {}
            if method == "GET" and answer.status in known:
                found = _object(text)
        except (OSError, http.client.HTTPException, ValueError, RecursionError) as error:
            raise Retryable(f"{self._who} does not answer: {error}") from error
        finally:
            connection.close()
        if answer.status // 100 != 2 and answer.status not in known:
            raise Retryable(f"{self._who} answers {method} {path} with {answer.status}")
        if not isinstance(found, dict):
            raise Retryable(f"{self._who} answers {method} {path} with JSON that is no object")
        return answer.status, found


def _object(text: bytes) -> dict[str, Any]:
    """Return what an answer of a known status says of itself, nothing where it is no JSON object."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


class HttpTarget:
    """A server of the team's own that takes weights by POST and tells them by GET."""

    name = "http"
    abilities = Abilities(holds_back=True)

    def __init__(self, settings: TargetSettings) -> None:
        self._client = JsonClient("the server", settings)

    def apply(self, rollout: Rollout) -> None:
        """Post what a committed record says; raises ``Retryable`` when a later epoch is in force there."""
        wanted = {
            "model": rollout.model,
            "epoch": rollout.epoch,
            "champion": rollout.champion,
            "canary": rollout.canary,
            "weight_bp": rollout.weight_bp,
            "lease_until": None if rollout.lease_until is None else rollout.lease_until.isoformat(),
        }
        status, _ = self._client.call("POST", self._client.path, wanted, known=frozenset({409}))
        if status == 409:
            raise Retryable(
                f"{rollout.model}: a later epoch than {rollout.epoch} is in force at the target; it was kept"
            )

    def observe(self, model: str) -> Observation | None:
        """Return what the server says it serves; None when it does not know the model."""
        path = f"{self._client.path}?model={quote(model, safe='')}"
        status, body = self._client.call("GET", path, known=frozenset({404}))
        if status == 404:
            return None
        return observed(body, f"the server's answer for {model} lacks or garbles")


def observed(answer: Any, said: str) -> Observation:
    """Return what a server's answer tells; raises ``Retryable`` that begins with ``said`` and names a wrong field."""
    try:
        # Not strict: a server may write a weight as 500.0.
        return msgspec.convert(answer, Observation, strict=False)
    except msgspec.ValidationError as error:
        raise Retryable(f"{said} {error}") from error
