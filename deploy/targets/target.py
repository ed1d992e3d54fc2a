"""What the controller asks of any serving platform, and how one is found by its name in the configuration."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Protocol, TypeVar, runtime_checkable

from msgspec import Meta
from pydantic import ValidationError

from stationkeeper.contracts.messages import Rollout
from stationkeeper.contracts.plugins import PluginGroup, load_plugin
from stationkeeper.contracts.settings import Settings
from stationkeeper.deploy.core.split import BUCKETS
from stationkeeper.deploy.settings import TargetSettings
from stationkeeper.streams.errors import Retryable

OptionsT = TypeVar("OptionsT", bound=Settings)


class ChangedByOthers(Retryable):
    """The platform holds what no record of ours says: somebody else moved it, and nothing was overwritten."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What a target really does for a model now, ``weight_bp`` of the traffic going to ``canary``.

    ``unfit`` names versions that it can never serve, with the reason; what is only late or unreachable is not there.
    ``proven`` names versions that it serves as they were scored: it has answered their golden rows alike.
    """

    champion: str | None
    canary: str | None
    weight_bp: Annotated[int, Meta(ge=0, le=BUCKETS)]
    unfit: Mapping[str, str] = field(default_factory=dict)
    proven: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a platform can do of what a rollout may ask; the default is all of it.

    Weights are multiples of ``step_bp`` basis points. ``sticky``: an entity stays with its arm. ``lapses``: the
    canary's weight ends with its lease although nobody takes it away. ``moves``: there is traffic to move.
    ``holds_back``: after a promotion the old champion can go on with a share; a target that says nothing is not asked.
    """

    step_bp: int = 1
    round_up: bool = False
    sticky: bool = True
    lapses: bool = True
    moves: bool = True
    holds_back: bool = False

    def weight(self, weight_bp: int) -> int | None:
        """Return the multiple of ``step_bp`` at or below a weight, as traffic never exceeds the record.

        Below the smallest one it is None, or that one where ``round_up`` allows it: 250 is 200 of steps of 100, 50 is
        None or 100.
        """
        whole = weight_bp - weight_bp % self.step_bp
        return whole if whole or not weight_bp else self.step_bp if self.round_up else None

    def keeps(self, holdback_bp: int) -> bool:
        """Return whether the old champion can keep this share after a promotion."""
        return self.holds_back and bool(self.weight(holdback_bp))

    def limits(self, steps_bp: Sequence[int], holdback_bp: int = 0) -> Iterator[tuple[bool, str]]:
        """Yield what a ramp asks for and the platform cannot do, and for each whether a step is refused."""
        for step in steps_bp:
            taken = self.weight(step)
            if taken is None:
                yield True, f"{step / BUCKETS:g} is refused: the least weight is {self.step_bp / BUCKETS:g}"
            elif taken != step:
                yield False, f"{step / BUCKETS:g} becomes {taken / BUCKETS:g}: weights are whole per cent"
        # A holdback below the least weight would be refused for as long as the probation lasts.
        if holdback_bp and not self.keeps(holdback_bp):
            yield False, "no holdback there: while on probation the new champion has all traffic"
        if not self.moves:
            yield False, "no traffic moves there: a canary shows nothing and ends as on_timeout says"
        if not self.sticky:
            yield False, "an entity is answered by both versions: nothing there keeps it with one"
        if not self.lapses:
            yield False, "while the role deploy is down a canary keeps its weight: no lease ends it there"


@runtime_checkable
class Target(Protocol):
    """A serving platform that follows the log. Every call is idempotent and raises ``Retryable`` when it may help.

    It is built from its ``TargetSettings``. A record whose ``epoch`` is below one that was applied comes from a
    controller that was replaced, and must change nothing. One that cannot do all of `Abilities` has them as
    ``abilities``. Where the platform needs time ``apply`` raises ``Retryable``, and is called again.
    """

    name: str

    def apply(self, rollout: Rollout) -> None:
        """Make the platform serve what a committed record says: a step, a promotion or a rollback."""

    def observe(self, model: str) -> Observation | None:
        """Return what the platform serves now; None when it does not know the model."""


class OfModels:
    """A target that serves some of the models alone."""

    def __init__(self, target: Target, models: Collection[str]) -> None:
        self.name, self.abilities = target.name, abilities_of(target)
        self.models = frozenset(models)
        self._target = target

    def apply(self, rollout: Rollout) -> None:
        """Make the platform serve what a record of one of its models says."""
        if rollout.model in self.models:
            self._target.apply(rollout)

    def observe(self, model: str) -> Observation | None:
        """Return what the platform serves of one of its models."""
        return self._target.observe(model) if model in self.models else None


def serves(target: Target, model: str) -> bool:
    """Return whether a target is asked to serve a model."""
    return not isinstance(target, OfModels) or model in target.models


def abilities_of(target: Target) -> Abilities:
    """Return what a target can do; all of it where it says nothing."""
    found = getattr(target, "abilities", None)
    return found if isinstance(found, Abilities) else Abilities()


def options_of(settings: TargetSettings, kind: type[OptionsT]) -> OptionsT:
    """Return the options of a target as its own settings; raises ``ValueError`` naming each that does not fit."""
    try:
        return kind.model_validate(settings.options)
    except ValidationError as error:
        wrong = (".".join(map(str, one["loc"])) + ": " + one["msg"] for one in error.errors(include_url=False))
        raise ValueError(f"targets: {settings.kind}: options: {'; '.join(wrong)}") from None


def filled(template: str, model: str, version: str = "") -> str:
    """Return a template of the configuration with ``{model}`` and ``{version}`` put in; nothing else is looked up."""
    return template.replace("{model}", model).replace("{version}", version)


def target_for(settings: TargetSettings) -> Target:
    """Return the target that the configuration names; raises ``PluginError`` or ``ValueError`` saying what to write."""
    made = load_plugin(PluginGroup.TARGETS, settings.kind)(settings)
    if not isinstance(made, Target):
        raise ValueError(  # noqa: TRY004 - a value of the configuration that does not fit
            f"targets: {settings.kind} is no target: it lacks name, apply or observe"
        )
    return made if settings.models is None else OfModels(made, settings.models)
