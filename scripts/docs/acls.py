"""The rights of each role on Kafka, made from who reads and writes what: docs/kafka-rights.md, and a test's ACLs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from scripts.docs.asyncapi import ROLES, Role
from stationkeeper.contracts.topics import dead_letter_topic

Kind = Literal["topic", "group", "transactional-id"]

# Which loops a process runs under one Kafka user.
PROCESSES: Final = {
    "monitor": ("tally", "join", "judge", "notify"),
    "retrain": ("retrain",),
    "deploy": ("deploy",),
    "serve": ("serve",),
}
# What a person's verbs write: a decision, also on a topic that was stopped; and an adoption or a reference, which are
# records that roles write as well. What was rejected goes back to its topic, and a mark to its dead letters.
_OPERATOR_WRITES: Final = ("approvals", "rollouts", "deployments", "references", "input-decisions")


@dataclass(frozen=True, slots=True)
class Right:
    """One line of Kafka's access list: what ``user`` may do with what has a name, or begins with it."""

    user: str
    kind: Kind
    name: str
    operations: tuple[str, ...]
    prefixed: bool = False

    def command(self) -> str:
        """Return the line of ``kafka-acls.sh`` that gives this right."""
        pattern = " --resource-pattern-type prefixed" if self.prefixed else ""
        operations = "".join(f" --operation {one}" for one in self.operations)
        return f"--add --allow-principal User:{self.user}{operations} --{self.kind} {self.name}{pattern}"


def rights(prefix: str, predictions: Sequence[str], others: Sequence[str]) -> list[Right]:
    """Return every right that a least-privilege installation needs; ``others`` are topics of labels and features."""
    inputs = (*predictions, *others)
    found = [right for process in PROCESSES for right in _process(process, prefix, predictions, inputs)]
    return [*found, *_people(prefix, inputs)]


def _process(process: str, prefix: str, predictions: Sequence[str], inputs: Sequence[str]) -> Iterator[Right]:
    loops = [role for role in ROLES if role.name in PROCESSES[process]]
    # Whoever starts looks whether the topics are there, and have their partitions.
    yield Right(process, "topic", f"{prefix}.", ("Describe",), prefixed=True)
    for word, named in (("Read", _names(loops, "reads")), ("Write", _names(loops, "writes"))):
        for name in named:
            yield from (Right(process, "topic", one, (word,)) for one in _topics(name, prefix, predictions, inputs))
    if process != "serve":
        for loop in loops:
            # A notifier's name is part of its group's.
            each = loop.name == "notify"
            group = f"{prefix}.{loop.name}{'-' * each}"
            yield Right(process, "group", group, ("Read",), prefixed=each)
            if each:
                yield Right(process, "transactional-id", group, ("Write",), prefixed=True)
                continue
            yield Right(process, "transactional-id", f"{prefix}.{loop.name}.", ("Write",), prefixed=True)


def _names(loops: Sequence[Role], side: Literal["reads", "writes"]) -> list[str]:
    return sorted({name for loop in loops for name in getattr(loop, side)})


def _topics(name: str, prefix: str, predictions: Sequence[str], inputs: Sequence[str]) -> Sequence[str]:
    special = {
        "inputs": inputs,
        "predictions": predictions,
        "dead-letters": [dead_letter_topic(one) for one in inputs],
    }
    return special.get(name, [f"{prefix}.{name}"])


def _people(prefix: str, inputs: Sequence[str]) -> Iterator[Right]:
    letters = [dead_letter_topic(one) for one in inputs]
    making = ("Create", "DescribeConfigs", "AlterConfigs", "Read")
    yield Right("setup", "topic", f"{prefix}.", making, prefixed=True)
    for name in (*inputs, *letters):
        yield Right("setup", "topic", name, making)
    for user in ("reader", "operator"):
        yield Right(user, "topic", f"{prefix}.", ("Read",), prefixed=True)
        for name in (*inputs, *letters):
            yield Right(user, "topic", name, ("Read",))
    for name in _OPERATOR_WRITES:
        yield Right("operator", "topic", f"{prefix}.{name}", ("Write",))
    for name in (*inputs, f"{prefix}.retrain-requests"):
        for one in (name, dead_letter_topic(name)):
            yield Right("operator", "topic", one, ("Write",))
    for verb in ("cli-", "adopt.", "dead-letters."):
        yield Right("operator", "transactional-id", f"{prefix}.{verb}", ("Write",), prefixed=True)


_WHO: Final = {
    "monitor": "the role `monitor`: loops tally, join, judge and one a notifier",
    "retrain": "the role `retrain`",
    "deploy": "the role `deploy`",
    "serve": "the router `serve`",
    "setup": "whoever runs `stationkeeper check --create` once, and after an upgrade: the only one that makes topics",
    "reader": "a person who looks: `explain`, `report`, `verify`, `requests list`, `dead-letters list`",
    "operator": "a person who decides: `approve`, `reject`, `pause`, `resume`, `roll-back`, `abort`, `adopt`, "
    "`profile --publish`, `topics resume`, `topics accept-new`, `dead-letters replay`",
}


def rights_page() -> str:
    """Return docs/kafka-rights.md."""
    lines = [
        "# Kafka: the rights of each role",
        "",
        "<!-- Written by `python -m scripts.docs.publish`; change scripts/docs/acls.py and run `make docs`. -->",
        "",
        "The least each user needs, for the prefix `stationkeeper` and a model with the topics `fraud.predictions` and",
        "`fraud.labels`. Repeat the lines of inputs and dead letters for every topic of every model. `Read` and",
        "`Write` hold `Describe`. A test runs all roles under exactly these rights, through both clients",
        "(tests/e2e/test_rights.py).",
        "",
        "The name of the Kafka user is the example's; the name of a group and of a transaction is `kafka.group_prefix`",
        "where that is set, else the prefix. Each line follows `kafka-acls.sh --bootstrap-server HOST:9092`.",
        "",
    ]
    found = rights("stationkeeper", ["fraud.predictions"], ["fraud.labels"])
    for user, who in _WHO.items():
        commands = [right.command() for right in found if right.user == user]
        lines += [f"## {user}", "", f"For {who}.", "", "```text", *commands, "```", ""]
    return "\n".join(lines[:-1]) + "\n"
