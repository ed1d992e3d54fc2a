"""Verbs about one model's rollout: where it stands with its evidence, and how fast it could be taken back."""

import time as clock
from collections.abc import Callable, Iterator
from json import loads
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stationkeeper.commands.operate import Person, decision_verb, signed
from stationkeeper.commands.options import ConfigOption, JsonOption, model_settings, print_json

if TYPE_CHECKING:
    from stationkeeper.contracts.messages import Rollout

Model = Annotated[str, typer.Argument(help="The model, as in the configuration.", show_default=False)]


def show_deployment(model: Model, config: ConfigOption = None, json: JsonOption = False) -> None:
    """Show a model's rollout: each step, each guardrail with its evidence and limit, and what was done."""
    from stationkeeper.deploy.adoption import DeploymentError, read_deployments
    from stationkeeper.deploy.controller.status import rollout_status
    from stationkeeper.process.wiring import open_reader

    with open_reader(config) as (settings, reader, topics):
        found = read_deployments(reader, topics)
        try:
            rollout = found.rollout(model)
        except DeploymentError as error:
            raise typer.BadParameter(str(error)) from None
        known = settings.models.get(model)
    # A model that left the configuration still has a record; only its limits are unknown.
    policy = known.rollout.policy(labels_expected=known.labels is not None) if known else None
    status = rollout_status(rollout, policy, [one for one in found.audit if one.model == model])
    if found.unreadable[model]:
        status["unreadable"] = found.unreadable[model]
    if "holdback" in status:
        status["holdback_not_at"] = _without_holdback(settings, model, status["holdback_bp"])
    if json:
        print_json(status)
        return
    for line in _lines(status):
        typer.echo(line)


def _without_holdback(settings: Any, model: str, holdback_bp: int) -> list[str]:
    """Return the configured targets of a model that cannot split what the log holds back; no platform is asked."""
    # One whose package is not installed here is left out: the role deploy says so, and the rest can be shown.
    found = [(kind, abilities) for kind, abilities in _abilities(settings, model) if not isinstance(abilities, str)]
    return [kind for kind, abilities in found if not abilities.keeps(holdback_bp)]


def _lines(status: dict[str, Any]) -> list[str]:
    from stationkeeper.contracts.times import to_datetime

    weight = f"{status['weight_bp'] / 100:g} %"
    canary = f", canary {status['canary']} at {weight}" if "canary" in status else ""
    if "holdback" in status:
        canary = f", holdback {status['holdback']} at {status['holdback_bp'] / 100:g} %"
        if without := status.get("holdback_not_at"):
            canary += f" (not at {', '.join(without)}: there version {status['champion']} has all traffic)"
    lines = [f"{status['model']}: {status['phase']}, champion {status['champion']}{canary}", f"  {status['reason']}"]
    if "shadow" in status:
        lines.append(f"  shadow: {status['shadow']}")
    for step in status.get("steps", ()):
        rows = f", {step['rows_canary']} canary rows" if "rows_canary" in step else ""
        lines.append(f"  step {step['weight_bp'] / 100:g} %: {step['state']}{rows}")
        if uncounted := step.get("uncounted"):
            said = [f"{minutes:g} min: {_why(code)}" for code, minutes in uncounted.items()]
            lines.append(f"    not counted or not compared: {'; '.join(said)}")
        lines += [f"    {rail['name']}: {rail['reason']}" for rail in step.get("guardrails", ())]
    for one in status["deployments"]:
        lines.append(f"  {to_datetime(one['time']).isoformat()} {one['action']}: {one['reason']}")
    if unread := status.get("unreadable"):
        lines.append(f"  {unread} records of the audit log cannot be read (another version's, or nonsense)")
    return lines


def _why(code: str) -> str:
    from stationkeeper.deploy.core.reasons import UNCOUNTED_TEXT, Uncounted

    # A record of a newer version may name what this one does not know.
    return UNCOUNTED_TEXT[Uncounted(code)] if code in {*Uncounted} else code


def drill(
    model: Model,
    by: Person = "unknown",
    yes: Annotated[bool, typer.Option("--yes", help="Really take back what is out now.")] = False,
    within: Annotated[float, typer.Option(help="Seconds after which it counts as failed.", min=1.0)] = 120.0,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> int:
    """Measure the seconds until production is back on its champion: a canary or a promotion on probation is taken back.

    Where nothing is out no traffic moves: each target gets its present record once more and is read back.
    """
    from stationkeeper.contracts.messages import Approval
    from stationkeeper.contracts.times import to_datetime
    from stationkeeper.deploy.adoption import DeploymentError, read_deployments
    from stationkeeper.deploy.drill import rehearsed, restored
    from stationkeeper.deploy.targets import target_for
    from stationkeeper.process.wiring import open_reader, publish, target_settings
    from stationkeeper.streams.ports import Outgoing

    with open_reader(config) as (settings, reader, topics):

        def record() -> "Rollout":
            return read_deployments(reader, topics).rollout(model)

        try:
            rollout = record()
        except DeploymentError as error:
            raise typer.BadParameter(str(error)) from None
        targets = [target_for(one) for one in target_settings(settings)]
        back = _back(rollout)
        if back is None:
            found = rehearsed(rollout, targets)
        elif not yes:
            raise typer.BadParameter(
                f"{model} is {rollout.phase.value}: the drill ends it and leaves version {back} alone; "
                "say --yes, or wait until nothing is out for a rehearsal that moves no traffic"
            )
        else:
            word = Approval(
                time=to_datetime(round(clock.time() * 1_000)),
                target="rollout",
                id=rollout.candidate or model,
                model=model,
                decision="roll_back",
                by=signed(settings, by),
                note="drill",
            )
            publish(settings, Outgoing(topics.approvals.name, word.encode(), word.id.encode()))
            found = restored(rollout, back, record, targets, within)
    if json:
        print_json({"model": model, "rehearsal": back is None, "restored": [_plain(one) for one in found]})
    else:
        typer.echo(f"{model}: " + ("rehearsal, nothing was moved" if back is None else f"back to version {back}"))
        for one in found:
            took = "not within the limit" if one.seconds is None else f"{one.seconds:.1f} s"
            typer.echo(f"  {one.what}: {took} ({one.seen})")
    return 1 if any(one.seconds is None for one in found) else 0


def show_shadow(
    model: Model,
    version: Annotated[str | None, typer.Argument(help="A retrained version; default: the newest candidate.")] = None,
    first: Annotated[int, typer.Option(help="So many of the rows that are kept.", min=1)] = 20,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Show what a candidate would have answered otherwise before it answered anyone, row by row, worst first."""
    from stationkeeper.contracts.messages import Candidate
    from stationkeeper.contracts.times import to_datetime
    from stationkeeper.explain.lineage import latest, read_messages
    from stationkeeper.process.wiring import open_reader
    from stationkeeper.registry import ArtifactError, MlflowConnection, read_run_file
    from stationkeeper.retrain.service.lineage import SHADOW_REPORT

    with open_reader(config) as (settings, reader, topics):
        candidates = latest(read_messages(reader, topics.candidates.name, Candidate), "id").values()
    mine = [one for one in candidates if one.model == model]
    asked = [one for one in mine if version in {None, one.version}]
    if not asked:
        known = ", ".join(one.version for one in mine) or "none"
        raise typer.BadParameter(f"{model} has no candidate {version or ''}; candidates in the log: {known}")
    candidate = max(asked, key=lambda one: one.time)
    if candidate.shadow is None:
        raise typer.BadParameter(f"version {candidate.version} of {model} was registered without a shadow")
    try:
        connection, where = MlflowConnection(settings.registry), settings.registry.tracking_uri
        report = loads(read_run_file(connection, where, candidate.run_id, SHADOW_REPORT))
    except ArtifactError as error:
        raise typer.BadParameter(str(error)) from None
    if json:
        print_json({"model": model, "version": candidate.version, **report})
        return
    typer.echo(f"{model} {candidate.version} against {candidate.champion}: {report['text']}")
    for row in report["rows"][:first]:
        groups = " ".join(f"{name.partition(':')[2]}={row[name]}" for name in row if name.startswith("segment:"))
        when = to_datetime(row["@time"]).isoformat()
        typer.echo(f"  {when} event {row['@event_id']} {row['kind']}: {row['reason']}  {groups}".rstrip())
    if len(report["rows"]) > first:
        typer.echo(f"  and {len(report['rows']) - first} more rows: --first {len(report['rows'])}")


def _back(rollout: "Rollout") -> str | None:
    """Return the version that a rollback leaves, None where nothing is out."""
    from stationkeeper.contracts.messages import RolloutPhase
    from stationkeeper.deploy.core.state import memory

    if rollout.canary and rollout.phase is not RolloutPhase.AWAITING_APPROVAL:
        return rollout.champion
    return memory(rollout).previous if rollout.phase is RolloutPhase.PROBATION else None


def _plain(one: Any) -> dict[str, Any]:
    return {"what": one.what, "seconds": one.seconds, "seen": one.seen}


# Bounds of `plan`: a failure beyond half is no failure any more, below a millionth no traffic shows one, and a canary
# that fails less than a tenth more often takes more rows than a year brings.
def plan(
    model: Annotated[str, typer.Argument(help="The model, as in the configuration.")],
    per_minute: Annotated[float, typer.Option(help="Requests a minute, all versions together.", min=0.01)],
    base: Annotated[float, typer.Option(help="Share of the champion's answers that fail.", min=0.000001, max=0.5)],
    ratio: Annotated[float, typer.Option(help="How many times as often a bad canary fails.", min=1.1)] = 2.0,
    design_effect: Annotated[float, typer.Option(help="How many rows that fail together count as one.", min=1.0)] = 1.0,
    entities: Annotated[
        int | None,
        typer.Option(help="How many people, cards or tenants send them, a few of them most.", min=1),
    ] = None,
    by_request: Annotated[
        bool | None,
        typer.Option(
            help="Whether each request is split by itself, or whoever sends it keeps a version; default: as "
            "the configured targets do.",
            show_default=False,
        ),
    ] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Print how long a rollout takes to decide at this traffic, failure rate and margin."""
    from dataclasses import asdict

    from stationkeeper.deploy.core.forecast import forecast, handful, in_time
    from stationkeeper.process.wiring import told_config

    settings = told_config(config)
    rollout = model_settings(settings, model).rollout
    given = rollout.policy(), per_minute, base, ratio, design_effect
    by_request = _by_request(settings, model) if by_request is None else by_request
    found, limits = forecast(*given, entities, by_request=by_request), _limits(settings, model)
    # What it is at best: how a handful spreads over the hours is known of its rows alone.
    sooner = forecast(*given, by_request=by_request) if by_request and entities and handful(entities) else None
    if json:
        print_json({**asdict(found), "sooner": asdict(sooner) if sooner else None, "limits": limits})
        return
    never = f"not by max_duration ({found.deadline} minutes), whose on_timeout is {rollout.on_timeout.value}"
    promoted, caught = (f"after {at} minutes" if at else never for at in (found.promoted, found.caught))
    typer.echo(f"{model}: {per_minute:g} requests a minute, {base:.3%} of the champion's fail; half of all rollouts")
    typer.echo(
        f"  of an equal canary are promoted (no more than {rollout.promote_margin:g} times as many fail): {promoted}"
    )
    typer.echo(f"  of one that fails {ratio:g} times as often are rolled back: {caught}")
    if sooner and sooner.promoted:
        typer.echo(
            f"  bounds, as {entities} entities hold the first step until rows show that their requests are split:"
        )
        typer.echo(
            f"  at best after {sooner.promoted} and {sooner.caught} minutes, the sooner the more alike they send"
        )
    late, by_row = [
        None if found.promoted else in_time(*given, entities, by_request=split).promoted for split in (by_request, True)
    ]
    if by_row and late is None:
        typer.echo(
            f"  {entities} entities that keep their version differ too much, however long it takes: split by request"
        )
        typer.echo("  (serve.sticky: event_id; gateways and clouds do), or promote by hand and accept the risk")
    elif found.promoted is None:
        more = f"more time (about {late} minutes)" if late else "more time"
        typer.echo(f"  allow {more} or a wider promote_margin, or promote by hand and accept the risk")
    for limit in limits:
        typer.echo(f"  {limit}")


def _limits(settings: Any, model: str) -> list[str]:
    """Return what the configured targets cannot do of the model's ramp; no platform is asked."""
    found, policy = [], settings.models[model].rollout.policy()
    for kind, abilities in _abilities(settings, model):
        # Told as a limit of the plan: the verb asks for numbers, and a missing package changes none of them.
        if isinstance(abilities, str):
            found.append(f"target {kind}: {abilities}")
            continue
        limits = abilities.limits(policy.steps_bp, policy.holdback_bp)
        found += [f"target {kind}: {limit}" for _, limit in limits]
    return found


def _by_request(settings: Any, model: str) -> bool:
    """Return whether all targets of a model split each request by itself, as far as they are known here."""
    own = settings.serve.sticky == "event_id"
    found = [
        own if kind == "router" else not abilities.sticky
        for kind, abilities in _abilities(settings, model)
        if not isinstance(abilities, str)
    ]
    return bool(found) and all(found)


def _abilities(settings: Any, model: str) -> Iterator[tuple[str, Any]]:
    """Yield the kind of each target of a model with its abilities, or with why it cannot be made here."""
    from stationkeeper.contracts.masking import masked
    from stationkeeper.contracts.plugins import PluginError
    from stationkeeper.deploy.targets import abilities_of, serves, target_for
    from stationkeeper.process.wiring import target_settings

    for one in target_settings(settings):
        try:
            target = target_for(one)
        except (PluginError, ValueError) as error:
            yield one.kind, masked(str(error))
            continue
        if serves(target, model):
            yield one.kind, abilities_of(target)


ROLLOUT_VERBS: dict[str, Callable[..., Any]] = {
    "plan": plan,
    "show": show_deployment,
    "shadow": show_shadow,
    "drill": drill,
    "pause": decision_verb(
        "rollout", "pause", "Hold a canary at its weight until resume: nothing is promoted, harm still rolls back."
    ),
    "resume": decision_verb("rollout", "resume", "Let a paused canary go on: its step starts again."),
}
