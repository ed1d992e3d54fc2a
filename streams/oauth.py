"""Tokens for OAUTHBEARER through kafka-python, which asks for them where librdkafka fetches its own."""

import base64
import http.client
import json
import math
import threading
import time
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

from kafka.net.sasl.oauth import AbstractTokenProvider

from stationkeeper.contracts.masking import remember
from stationkeeper.streams.deadline import HTTPConnection, HTTPSConnection

# A connection waits for it, within a connect timeout of five seconds.
_ASK_S: Final = 4.0
# Of a token's life it is used for as much, so that none ends on the way to a broker whose clock is a little ahead.
_USED: Final = 0.8
# What an answer without expires_in is taken for: the shortest life that providers give in practice.
_LIFE_S: Final = 60.0
# What of an answer is read: tokens have some kB, and a wrong address may send gigabytes.
_MOST_BYTES: Final = 65_536


class TokenRefused(Exception):
    """The token endpoint gave none; the message says why, without the secret."""


class ClientCredentials(AbstractTokenProvider):  # type: ignore[misc] # kafka-python has no types
    """Fetches a token by the OAuth 2.0 grant ``client_credentials`` (RFC 6749, 4.4) and keeps it for most of its life.

    ``token`` raises ``TokenRefused``. Redirects are not followed: the secret is for the endpoint that was named.
    """

    def __init__(self, url: str, client: str, secret: str, scope: str | None) -> None:
        self._url, self._scope = urlsplit(url), scope
        pair = f"{quote(client, safe='')}:{quote(secret, safe='')}"
        self._proof = remember(base64.b64encode(pair.encode()).decode())
        self._lock = threading.Lock()
        self._token, self._until = "", 0.0

    def token(self) -> str:
        """Return a token that is good for a while yet."""
        with self._lock:
            if time.monotonic() >= self._until:
                answer = self._ask()
                try:
                    self._token = remember(str(answer["access_token"]))
                    life = float(answer.get("expires_in", _LIFE_S))
                    if not math.isfinite(life):
                        # Of such a life no end ever comes.
                        raise ValueError(life)  # noqa: TRY301 - told as the others are
                except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
                    raise TokenRefused(
                        f"the answer of {self._url.hostname} holds no access_token with an expires_in of seconds"
                    ) from None
                self._until = time.monotonic() + _USED * life
            return self._token

    def _ask(self) -> Any:
        url = self._url
        kind = HTTPSConnection if url.scheme == "https" else HTTPConnection
        connection = kind(url.hostname or "", url.port, timeout=_ASK_S)
        form = {"grant_type": "client_credentials"} | ({"scope": self._scope} if self._scope else {})
        headers = {
            "authorization": f"Basic {self._proof}",
            "content-type": "application/x-www-form-urlencoded",
            "accept": "application/json",
        }
        path = (url.path or "/") + (f"?{url.query}" if url.query else "")
        try:
            connection.request("POST", path, urlencode(form), headers)
            answer = connection.getresponse()
            body = answer.read(_MOST_BYTES)
            if answer.status != 200:
                raise TokenRefused(f"{url.hostname} answers {answer.status} for a token; see kafka.security")
            return json.loads(body)
        except (OSError, http.client.HTTPException, ValueError, RecursionError) as error:
            raise TokenRefused(f"{url.hostname} gives no token: {error}") from error
        finally:
            connection.close()
