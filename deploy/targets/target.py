"""What the controller asks of any serving platform, and how one is found by its name in the configuration."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from stationkeeper.contracts.messages import Rollout
from stationkeeper.contracts.plugins import PluginGroup, load_plugin
from stationkeeper.deploy.settings import TargetSettings


@dataclass(frozen=True, slots=True)
class Observation:
    """What a target really does for a model now, ``weight_bp`` of the traffic going to ``canary``.

    ``unfit`` names versions that it can never serve, with the reason; what is only late or unreachable is not there.
    ``proven`` names versions that it serves as they were scored: it has answered their golden rows alike.
    """

    champion: str | None
    canary: str | None
    weight_bp: int
    unfit: Mapping[str, str] = field(default_factory=dict)
    proven: frozenset[str] = frozenset()


@runtime_checkable
class Target(Protocol):
    """A serving platform that follows the log. Every call is idempotent and raises ``Retryable`` when it may help.

    It is built from its ``TargetSettings``. A record whose ``epoch`` is below one that was applied comes from a
    controller that was replaced, and must change nothing.
    """

    name: str

    def apply(self, rollout: Rollout) -> None:
        """Make the platform serve what a committed record says: a step, a promotion or a rollback."""

    def observe(self, model: str) -> Observation | None:
        """Return what the platform serves now; None when it does not know the model."""


def target_for(settings: TargetSettings) -> Target:
    """Return the target that the configuration names; raises ``PluginError`` or ``ValueError`` saying what to write."""
    made = load_plugin(PluginGroup.TARGETS, settings.kind)(settings)
    if not isinstance(made, Target):
        raise ValueError(  # noqa: TRY004 - a value of the configuration that does not fit
            f"targets: {settings.kind} is no target: it lacks name, apply or observe"
        )
    return made
