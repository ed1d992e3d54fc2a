"""Verbs for the person on call: what is asked, what is rolled out, what was rejected, and is the set-up sound."""

import time as clock
from collections.abc import Callable
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from stationkeeper.commands.options import (
    ConfigOption,
    JsonOption,
    model_settings,
    print_json,
    print_rows,
    refuse_wrong,
)
from stationkeeper.contracts.masking import masked

if TYPE_CHECKING:
    from stationkeeper.config import Config
    from stationkeeper.contracts.messages import Approval, Rollout

Person = Annotated[str, typer.Option("--by", help="Who decides; kept in the log.", envvar="USER")]
Note = Annotated[str, typer.Option("--note", help="Why; kept in the log.")]


def list_requests(config: ConfigOption = None, json: JsonOption = False) -> None:
    """List retrain requests with what became of them."""
    from stationkeeper.explain.lineage import Lineage
    from stationkeeper.process.wiring import open_reader

    with open_reader(config) as (settings, reader, topics):
        # The log alone is listed: a model that left the configuration still has requests.
        del settings
        lineage = Lineage(reader, topics)
    rows = [
        {
            "id": request.id,
            "time": request.time.isoformat(),
            "model": request.model,
            "version": request.version,
            "cause": request.cause,
            "incident": request.incident,
            "candidate": next((c.version for c in lineage.candidates.values() if c.request == request.id), None),
            # Never an empty cell: a request that no trainer has read looks like one that is at work.
            "outcome": lineage.outcomes[request.id].words() if request.id in lineage.outcomes else "not taken up yet",
        }
        for request in lineage.requests.values()
    ]
    if json:
        print_json(rows)
    else:
        print_rows(rows, ("id", "time", "model", "version", "cause", "candidate", "outcome"), empty="no requests yet")


def list_deployments(config: ConfigOption = None, json: JsonOption = False) -> None:
    """List each model's champion and canary, and what was done last."""
    from stationkeeper.explain.lineage import Lineage
    from stationkeeper.process.wiring import open_reader

    with open_reader(config) as (settings, reader, topics):
        del settings
        lineage = Lineage(reader, topics)
    rows: list[dict[str, Any]] = [
        {
            "model": rollout.model,
            "champion": rollout.champion,
            "phase": rollout.phase.value,
            "canary": rollout.canary,
            "weight": f"{rollout.weight_bp / 100:g} %",
            "since": rollout.time.isoformat(),
            "candidate": rollout.candidate,
            "reason": rollout.reason,
        }
        for rollout in lineage.rollouts.values()
    ]
    if json:
        print_json(
            {"rollouts": rows, "log": [d.model_dump(mode="json", exclude_none=True) for d in lineage.deployments]}
        )
    else:
        print_rows(rows, ("model", "champion", "phase", "canary", "weight", "reason"), empty="nothing is deployed yet")


def decision_verb(
    target: Literal["request", "rollout"],
    decision: Literal["approve", "reject", "roll_back", "retry", "promote", "pause", "resume"],
    text: str,
    *,
    under_way: bool = False,
) -> Callable[..., None]:
    """Return the verb that writes a person's decision about a target to the approvals topic; ``text`` is its help.

    ``under_way``: of a canary alone, never of what was promoted.
    """
    which = "The id that list prints." if target == "request" else "The model's name, or its candidate's id."

    def decide(
        name: Annotated[str, typer.Argument(metavar="ID", help=which, show_default=False)],
        by: Person = "unknown",
        note: Note = "",
        config: ConfigOption = None,
        json: JsonOption = False,
    ) -> None:
        from stationkeeper.contracts.messages import Approval
        from stationkeeper.contracts.times import to_datetime
        from stationkeeper.explain.lineage import Lineage
        from stationkeeper.process.wiring import open_reader, publish
        from stationkeeper.streams.ports import Outgoing

        with open_reader(config) as (settings, reader, topics):
            lineage = Lineage(reader, topics)
            found = _target(lineage, target, name)
            if found is None:
                # Five, newest last: enough to see a mistyped letter, and one line.
                known = list(lineage.requests if target == "request" else lineage.candidates)[-5:]
                models = "" if target == "request" else f"; models with one: {', '.join(lineage.rollouts) or 'none'}"
                latest = ", ".join(known) or "none"
                raise typer.BadParameter(f"no {target} is called {name!r}; the latest are {latest}{models}")
            model, full = found
            # What is out is taken back whatever the configuration says: that needs nothing but the last record.
            if target == "request" or decision not in {"reject", "roll_back"}:
                refuse_wrong(settings, model)
            now = to_datetime(round(clock.time() * 1_000))
            approval = Approval(
                time=now,
                target=target,
                id=full,
                model=model,
                decision=decision,
                by=signed(settings, by),
                note=note,
                principal=_principal(settings),
            )
            if target == "request":
                refuse_pointless(settings, lineage, approval)
            # A candidate that still waits for its turn may be rejected; only of one whose rollout this is can it be
            # told that nothing moves.
            elif (rollout := lineage.rollouts.get(model)) and (name == model or rollout.candidate == full):
                if under_way and rollout.canary is None:
                    raise typer.BadParameter(
                        f"model {model!r} has no canary under way: there is nothing to abort; roll-back takes back "
                        "what was promoted"
                    )
                if under_way:
                    approval = approval.model_copy(update={"canary": rollout.canary})
                refuse_idle(rollout, approval)
                if decision == "promote":
                    _tell_risk(settings, rollout)
            publish(settings, Outgoing(topics.approvals.name, approval.encode(), full.encode()))
        if json:
            print_json(approval.model_dump(mode="json"))
            return
        typer.echo(f"{decision.replace('_', ' ')}: {target} {full} of {model}, by {approval.by}")

    decide.__doc__ = text
    return decide


def refuse_pointless(settings: Any, lineage: Any, word: "Approval") -> None:
    """Raise ``typer.BadParameter`` where a word on a request would do nothing, with where the request stands."""
    from stationkeeper.retrain.service.approvals import after_approval

    configured = settings.models.get(word.model)
    if configured is None or configured.retrain is None:
        raise typer.BadParameter(f"model {word.model!r} has no retrain: section, so nobody works on its requests")
    state, rollout = lineage.outcomes.get(word.id), lineage.rollouts.get(word.model)
    # The role may not have read the request yet: an approval is kept in its table and counts when it has.
    if state is None:
        if word.decision == "retry":
            raise typer.BadParameter(f"request {word.id} is not taken up yet; does the role retrain run?")
        return
    people = configured.retraining().approvers
    moved = after_approval(state, word, rollout.champion if rollout else None, people)
    if isinstance(moved, str):
        raise typer.BadParameter(moved)


def signed(settings: "Config", by: str) -> str:
    """Return who decides as the log keeps it: what the person says, and whom Kafka let in where it asked."""
    # A name typed into `--by` proves nothing; the one that the broker checked does, and stands beside it.
    user = _principal(settings)
    return by if user in {"", by} else f"{by} (Kafka user {user})"


def _principal(settings: "Config") -> str:
    """Whom the broker lets in, "" where it does not ask."""
    security = settings.kafka.security
    return (security.username or "") if security.protocol.startswith("SASL") else ""


def refuse_idle(rollout: "Rollout", approval: "Approval") -> None:
    """Raise ``typer.BadParameter`` where a model's rollout is in a state in which the word would do nothing."""
    from stationkeeper.contracts.messages import RolloutPhase
    from stationkeeper.deploy.core.admission import may_pause, past_deadline
    from stationkeeper.deploy.core.state import memory

    champion, phase = rollout.champion, rollout.phase
    wanted = approval.decision.replace("_", " ")
    if rollout.candidate is None:
        raise typer.BadParameter(
            f"model {rollout.model!r} has had no rollout since version {champion} was adopted: "
            f"there is nothing to {wanted}"
        )
    # What waits for approval is approved and not promoted: the word `promote` accepts a risk, `approve` says that there
    # is none.
    waits = phase is RolloutPhase.AWAITING_APPROVAL
    movable = {
        "approve": waits,
        "promote": rollout.canary is not None and not waits,
        "pause": may_pause(rollout) is True,
        "resume": may_pause(rollout) is False,
    }
    late = past_deadline(rollout, wanted)
    if not movable.get(approval.decision, phase is not RolloutPhase.STEADY or memory(rollout).previous is not None):
        raise typer.BadParameter(
            f"model {rollout.model!r} is {phase.value.replace('_', ' ')} with champion {champion}: there is nothing to "
            f"{wanted}; its last reason: {late.text if late else rollout.reason}"
            + ("; approve lets it out, abort rejects it" if waits else "")
        )


def _tell_risk(settings: Any, rollout: "Rollout") -> None:
    """Say what a person accepts who promotes now, on the error stream; the controller writes it into the log."""
    from stationkeeper.deploy.core.promotion import risks
    from stationkeeper.deploy.core.state import memory

    model = settings.models.get(rollout.model)
    if model is not None:
        policy = model.rollout.policy(labels_expected=model.labels is not None)
        for risk in risks(memory(rollout), policy):
            typer.echo(f"not shown yet: {risk}", err=True)


def _target(lineage: Any, target: str, name: str) -> tuple[str, str] | None:
    if target == "request":
        request = lineage.requests.get(name)
        return (request.model, request.id) if request else None
    candidate = lineage.candidates.get(name)
    if candidate is not None:
        return candidate.model, candidate.id
    rollout = lineage.rollouts.get(name)
    return (rollout.model, rollout.candidate or rollout.model) if rollout else None


def adopt(  # noqa: PLR0913, PLR0917 - the verb's options
    model: Annotated[str, typer.Argument(help="The model, as in the configuration.")],
    version: Annotated[str | None, typer.Argument(help="A version the registry has; none with --train.")] = None,
    reference: Annotated[Path | None, typer.Option(help="Its reference, from stationkeeper profile.")] = None,
    train: Annotated[Path | None, typer.Option(help="Train the first champion on this table.")] = None,
    time: Annotated[str | None, typer.Option(help="Time column of --train.")] = None,
    label: Annotated[str, typer.Option(help="Label column of --train.")] = "label",
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Let code of the version's author run, pinned to these files.")
    ] = False,
    by: Person = "unknown",
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Make a version the first champion: one the registry has, or one trained here."""
    from stationkeeper.process.first_champion import adopt_champion, adopt_first_champion
    from stationkeeper.process.wiring import prepare_topics, told_config
    from stationkeeper.tables import Parts, TableRefused, read_table

    if version is not None and train is not None:
        raise typer.BadParameter(
            f"give VERSION ({version}) or --train, not both: a version trained here gets its own number"
        )
    settings = told_config(config)
    model_settings(settings, model)
    # The first command of a new installation may be this one, before any role has made the topics.
    prepare_topics(settings, create_inputs=False)
    now = round(clock.time() * 1_000)
    if train is not None:
        try:
            table = read_table(train, settings.models[model].values, Parts(time, None, label), model=None)
        except TableRefused as error:
            raise typer.BadParameter(str(error)) from error
        for line in table.lines():
            typer.echo(f"  {line}", err=True)
        rows = table.used()
        first = adopt_first_champion(settings, model, rows, at_ms=now, by=by, time_column=time, label_column=label)
        version = first.version
        # On the error stream with --json: stdout is one JSON value then.
        typer.echo(f"trained version {version}: {first.result.performance}", err=json)
    # Neither is named: a first champion is never guessed, not even where the registry has one version.
    elif version is None:
        raise typer.BadParameter("give a VERSION of the registry, or --train FILE")
    else:
        text = reference.read_bytes() if reference is not None else None
        found = adopt_champion(settings, model, version, text, now, by=by, allow_pickle=allow_pickle)
        typer.echo(f"version {version}: {found}", err=json)
    if json:
        print_json({"model": model, "champion": version, "by": by})
        return
    typer.echo(f"version {version} is champion of {model}")


def check(
    config: ConfigOption = None,
    sample: Annotated[
        int, typer.Option(help="Also read this many records of each input and print them mapped.", min=0)
    ] = 0,
    create: Annotated[bool, typer.Option("--create", help="Create the input topics that do not exist.")] = False,
    json: JsonOption = False,
) -> int:
    """Find what would fail later: configuration, topics, retention, registry, router, mapping."""
    from stationkeeper.check.checks import run_checks
    from stationkeeper.config import load

    findings = []
    for finding in run_checks(load(config), sample=sample, create=create):
        findings.append(finding)
        # Each as it is found: a registry's client alone takes seconds to load, and a refused password is known before.
        if not json:
            typer.echo(f"{finding.mark} {finding.what}: {finding.detail}")
            for line in finding.lines:
                typer.echo(f"    {line}")
    if json:
        print_json([finding.to_json() for finding in findings])
    # Warnings exit 0: a pipeline stops for what would fail, not for what could be better.
    return 1 if any(finding.failed for finding in findings) else 0


def notify(
    name: Annotated[
        str | None, typer.Argument(help="One of notifiers:; all where left out.", show_default=False)
    ] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> int:
    """Tell each configured notifier a trial notice now, and say what its receiver answers."""
    from stationkeeper.contracts.times import to_datetime
    from stationkeeper.notify import Notice, Told, notifier_for
    from stationkeeper.process.wiring import told_config
    from stationkeeper.streams.errors import Retryable

    known = told_config(config).notifiers
    if name is not None and name not in known:
        raise typer.BadParameter(f"no notifier is called {name!r}; notifiers: has {', '.join(known) or 'none'}")
    answers: dict[str, str] = {}
    code = 0
    for one in known if name is None else [name]:
        now = to_datetime(round(clock.time() * 1_000))
        text = "a trial of stationkeeper notify: nothing happened"
        notice = Notice(id=f"trial-{one}-{now.isoformat()}", told=Told.PAGE, time=now, model="trial", text=text)
        try:
            notifier_for(known[one]).notify(notice)
        except Exception as error:  # noqa: BLE001 - of an extension, and the others are tried all the same
            name_of = "" if isinstance(error, Retryable | ValueError) else f"{type(error).__name__}: "
            answers[one] = masked(f"{name_of}{error}")
            # 4 is a receiver that is away, 1 one that does not want it (cli).
            code = 4 if isinstance(error, Retryable) else 1
        else:
            answers[one] = f"took {notice.id}"
    if json:
        print_json(answers)
    else:
        for one, said in answers.items():
            typer.echo(f"{one}: {said}")
    return code


def gate(
    candidate: Annotated[str, typer.Argument(help="A version of the registry.")],
    model: Annotated[str, typer.Option(help="The model.")],
    snapshot: Annotated[str, typer.Option(help="The snapshot's SHA-256.")],
    champion: Annotated[str, typer.Option(help="Alias or version to compare with.")] = "champion",
    learnt_until: Annotated[
        str | None,
        typer.Option(help="Last time among the version's training rows (RFC 3339), where its card does not say."),
    ] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> int:
    """Judge a version against the champion on a snapshot's held-out rows: exit 0 PASS, 1 FAIL, 3 NO-EVIDENCE."""
    from stationkeeper.commands.profile import moment
    from stationkeeper.process.wiring import told_config
    from stationkeeper.registry import Registry
    from stationkeeper.retrain.gate_command import gate_version
    from stationkeeper.retrain.settings import RetrainSettings
    from stationkeeper.retrain.snapshot import SnapshotStore

    settings = told_config(config)
    refuse_wrong(settings, model)
    mine = settings.models.get(model)
    outcome = gate_version(
        Registry(settings.registry),
        SnapshotStore.of(settings.snapshots),
        mine.retraining() if mine else RetrainSettings(),
        model=model,
        candidate=candidate,
        champion=champion,
        snapshot=snapshot,
        learnt_until=moment(learnt_until),
    )
    if json:
        print_json(outcome.to_json())
    else:
        typer.echo(outcome.text())
    return outcome.exit_code


def show_config(
    config: ConfigOption = None,
    effective: Annotated[bool, typer.Option("--effective", help="Every key, those at their default too.")] = False,
    json: JsonOption = False,
) -> None:
    """Print the configuration as a role would run with it, and what set each key: file, environment or default."""
    from stationkeeper.effective import effective as keys_of

    found = [one for one in keys_of(config) if effective or one.origin != "default"]
    if json:
        print_json([one.to_json() for one in found])
        return
    if not found:
        typer.echo("every key is at its default: give --config FILE, or --effective to see them")
    # As wide as its longest line, so that values and sources stand below each other.
    lines = [f"{one.key} = {_text(one.value)}" for one in found]
    width = min(max(map(len, lines), default=0), _WIDEST)
    for one, line in zip(found, lines, strict=True):
        typer.echo(f"{line:<{width}}  {one.where or one.origin}")


def _text(value: Any) -> str:
    """A value as YAML has it in one line."""
    if isinstance(value, str):
        return value
    return "" if value is None else dumps(value, ensure_ascii=False)


# A value may be long; beyond this column its source stands right behind it. Half would put most sources there, twice
# would wrap every line of a terminal.
_WIDEST = 80


def config_schema() -> None:
    """Print the JSON Schema of a configuration file, for editors that complete keys and mark wrong ones."""
    from stationkeeper.effective import schema

    print_json(schema())


REQUEST_VERBS: dict[str, Callable[..., Any]] = {
    "list": list_requests,
    "approve": decision_verb("request", "approve", "Approve a retrain request that waits for a person."),
    "reject": decision_verb("request", "reject", "Reject a retrain request."),
    "retry": decision_verb("request", "retry", "Ask again for a request that ended without a candidate."),
}
DEPLOYMENT_VERBS: dict[str, Callable[..., Any]] = {
    "list": list_deployments,
    "adopt": adopt,
    "approve": decision_verb(
        "rollout", "approve", "Approve the rollout of a candidate (its id) that waits for a person."
    ),
    "reject": decision_verb("rollout", "reject", "Reject the rollout of a candidate (its id)."),
    "promote": decision_verb(
        "rollout", "promote", "Promote a canary before its evidence is in, accepting the risk that is printed."
    ),
    "abort": decision_verb(
        "rollout", "roll_back", "End a canary that is under way: all traffic to the champion.", under_way=True
    ),
    "roll-back": decision_verb(
        "rollout", "roll_back", "Send all traffic back to the champion: the candidate's id, or the model's name."
    ),
}
CONFIG_VERBS: dict[str, Callable[..., Any]] = {"show": show_config, "schema": config_schema}
