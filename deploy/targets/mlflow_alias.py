"""MLflow aliases as a target, for servers that load what an alias names: the weight is in a tag, a webhook tells of it.

MLflow has no compare-and-set. One tag of the registered model says what we wrote, with its epoch; aliases are compared
with it before a change and read back after it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from stationkeeper.contracts.messages import Rollout
from stationkeeper.contracts.settings import Settings
from stationkeeper.deploy.settings import TargetSettings
from stationkeeper.deploy.targets.http import HttpTarget
from stationkeeper.deploy.targets.target import Abilities, ChangedByOthers, Observation, options_of
from stationkeeper.registry import CHALLENGER_ALIAS, CHAMPION_ALIAS, ArtifactError, MlflowConnection, RegistrySettings
from stationkeeper.streams.errors import Retryable

TAG = "stationkeeper.rollout"
"""The tag of a registered model that servers read: JSON with epoch, champion, canary and weight_bp."""


class AliasOptions(Settings):
    """Where the registry is, left out that of ``registry``, and the aliases that servers follow."""

    tracking_uri: Annotated[str, Field(min_length=1)]
    champion: Annotated[str, Field(min_length=1)] = CHAMPION_ALIAS
    challenger: Annotated[str, Field(min_length=1)] = CHALLENGER_ALIAS


@dataclass(frozen=True, slots=True)
class Aliases:
    """What the registry says of a model: its aliases, and what we wrote last (``told``: the webhook took it)."""

    named: Mapping[str, str]
    written: Mapping[str, Any]

    @property
    def epoch(self) -> int:
        """Return the epoch of what we wrote last, -1 where we never did."""
        found = self.written.get("epoch", -1)
        return found if isinstance(found, int) else -1


class MlflowAliasTarget:
    """The aliases of each registered model, and a POST to the team's server at ``url`` where there is one."""

    name = "mlflow-alias"
    # The server that reads the tag splits as it likes; the tag says nothing of a lease, which is renewed too often.
    abilities = Abilities(lapses=False)

    def __init__(self, settings: TargetSettings) -> None:
        self._options = options_of(settings, AliasOptions)
        # MLflow's client counts whole seconds.
        limit = max(settings.timeout, 1_000)
        self._registry = MlflowConnection(RegistrySettings(tracking_uri=self._options.tracking_uri, timeout=limit))
        self._server = HttpTarget(settings) if settings.url else None

    def apply(self, rollout: Rollout) -> None:
        """Write aliases and tag, then tell the server; raises ``Retryable`` where that is not so."""
        model = rollout.model
        found = self._look(model)
        if found is None:
            raise Retryable(f"{model} is no registered model at {self._options.tracking_uri}: register its champion")
        champion = found.named.get(self._options.champion)
        if found.epoch > rollout.epoch:
            raise Retryable(f"{model}: a later epoch ({found.epoch}) than {rollout.epoch} is in force; it was kept")
        if found.epoch >= 0 and champion not in {found.written.get("champion"), rollout.champion}:
            raise ChangedByOthers(
                f"the alias {self._options.champion} of {model} names {champion}, epoch {found.epoch} left "
                f"{found.written.get('champion')}; nothing was overwritten: set it back, or remove the tag {TAG}"
            )
        wanted = {
            "epoch": rollout.epoch,
            "champion": rollout.champion,
            "canary": rollout.canary,
            "weight_bp": rollout.weight_bp,
        }
        if {**found.written, "told": None} != {**wanted, "told": None} or champion != rollout.champion:
            self._write(rollout, found, wanted)
        elif found.written.get("told"):
            return
        if self._server is not None:
            # Told once a change, not at every renewal of the lease: a server that ended it there would stand still.
            self._server.apply(rollout.model_copy(update={"lease_until": None}))
        with self._registry.asking(f"note what {model}'s server was told") as client:
            client.set_registered_model_tag(model, TAG, json.dumps({**wanted, "told": True}))

    def observe(self, model: str) -> Observation | None:
        """Return what the aliases and the tag tell a server to serve; None for a model that is not registered."""
        found = self._look(model)
        if found is None:
            return None
        canary = found.written.get("canary")
        weight_bp = int(found.written.get("weight_bp", 0)) if canary else 0
        return Observation(found.named.get(self._options.champion), canary, weight_bp)

    def _look(self, model: str) -> Aliases | None:
        try:
            with self._registry.asking(f"read the aliases of {model}") as client:
                told = client.get_registered_model(model)
        except ArtifactError:
            return None
        try:
            written = json.loads(told.tags.get(TAG, "{}"))
        except ValueError:
            written = {}
        named = {name: str(version) for name, version in told.aliases.items()}
        return Aliases(named, written if isinstance(written, dict) else {})

    def _write(self, rollout: Rollout, found: Aliases, wanted: Mapping[str, Any]) -> None:
        model, options = rollout.model, self._options
        with self._registry.asking(f"move the aliases of {model}") as client:
            # In this order a server that reads in between never finds a weight for a version that no alias names.
            client.set_registered_model_alias(model, options.champion, rollout.champion)
            if rollout.canary is not None:
                client.set_registered_model_alias(model, options.challenger, rollout.canary)
            client.set_registered_model_tag(model, TAG, json.dumps({**wanted, "told": False}))
            old = found.written.get("canary")
            if rollout.canary is None and old is not None and found.named.get(options.challenger) == old:
                # A newer candidate that training named meanwhile keeps the alias.
                client.delete_registered_model_alias(model, options.challenger)
        seen = self._look(model)
        if seen is None or seen.named.get(options.champion) != rollout.champion or seen.epoch != rollout.epoch:
            raise ChangedByOthers(f"the aliases of {model} were changed while we wrote them; they are looked at again")
