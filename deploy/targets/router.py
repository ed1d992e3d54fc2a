"""The built-in router as a target: it follows the log by itself, so there is nothing to apply, only to observe."""

from typing import Any

from stationkeeper.contracts.messages import Rollout
from stationkeeper.deploy.settings import TargetSettings
from stationkeeper.deploy.targets.http import JsonClient, observed
from stationkeeper.deploy.targets.target import Abilities, Observation
from stationkeeper.streams.errors import Retryable

# Of an entry that is none: enough to see what answers there.
_SHOWN = 100


class RouterTarget:
    """One router process at ``settings.url``, e.g. ``http://127.0.0.1:8080``."""

    name = "router"
    # It reads the record by itself, holdback included.
    abilities = Abilities(holds_back=True)

    def __init__(self, settings: TargetSettings) -> None:
        self._client = JsonClient("the router", settings)

    def apply(self, rollout: Rollout) -> None:
        """Do nothing: the router reads the same record, and lets an older epoch be by itself."""

    def observe(self, model: str) -> Observation | None:
        """Return what the router applies for a model; None when it does not know the model."""
        _, body = self._client.call("GET", "/api/v1/status")
        models = body.get("models")
        entries: list[Any] = models if isinstance(models, list) else [None]
        mine: list[Any] = [one for one in entries if isinstance(one, dict) and one.get("model") == model]
        # Another model's entry, however garbled, is nothing to this one; an entry that names none may be this one's.
        mine += [one for one in entries if not (isinstance(one, dict) and "model" in one)]
        if not mine:
            return None
        none = "what answers at the router's address is no router of this version:"
        # Those two are optional for other servers, and a router that leaves them out is an older one.
        if not isinstance(mine[0], dict) or not mine[0].keys() >= {"model", "unfit", "proven"}:
            raise Retryable(f"{none} models: {str(mine[0])[:_SHOWN]}")
        return observed(mine[0], none)
