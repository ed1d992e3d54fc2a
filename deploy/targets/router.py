"""The built-in router as a target: it follows the log by itself, so there is nothing to apply, only to observe."""

import http.client
import json
from urllib.parse import urlsplit

from stationkeeper.contracts.messages import Rollout
from stationkeeper.deploy.targets import Observation
from stationkeeper.streams.errors import Retryable


class RouterTarget:
    """One router process at ``url``, e.g. ``http://127.0.0.1:8080``."""

    name = "router"

    def __init__(self, url: str, timeout_s: float = 2.0) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or parts.hostname is None:
            raise ValueError(f"{url!r} is not the address of a router; write http://HOST:PORT")
        self._address = (parts.hostname, parts.port or 80)
        self._timeout = timeout_s

    def apply(self, rollout: Rollout) -> None:
        """Do nothing: the router reads the same record."""

    def observe(self, model: str) -> Observation | None:
        """Return what the router applies for a model; None when it does not know the model."""
        host, port = self._address
        connection = http.client.HTTPConnection(host, port, timeout=self._timeout)
        try:
            connection.request("GET", "/api/v1/status")
            body = json.loads(connection.getresponse().read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise Retryable(f"the router at {host}:{port} does not answer: {error}") from error
        finally:
            connection.close()
        found = next((one for one in body.get("models", ()) if one["model"] == model), None)
        if found is None:
            return None
        return Observation(found["champion"], found["canary"], found["weight_bp"], found["unfit"])
