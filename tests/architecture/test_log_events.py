"""Every line a process logs carries one of the closed list of events, and never a value that may be a secret."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("contracts", "streams", "events", "registry", "monitor", "retrain", "deploy", "stationkeeper")
LEVELS = frozenset({"debug", "info", "warning", "error", "exception", "critical", "fatal"})
SECRETS = ("password", "secret", "token", "credential")


def log_calls(tree: ast.AST) -> Iterator[ast.Call]:
    """Yield the calls of a structlog logger, whatever it is called: ``log.info(...)``, ``self._log.error(...)``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LEVELS:
            owner = node.func.value
            name = owner.id if isinstance(owner, ast.Name) else owner.attr if isinstance(owner, ast.Attribute) else ""
            if name.strip("_") in {"log", "logger"}:
                yield node


def is_event(node: ast.expr, given: frozenset[str]) -> bool:
    """Whether an expression is a ``LogEvent``: a member, a choice of members, a call or name annotated as one."""
    if isinstance(node, ast.IfExp):
        return is_event(node.body, given) and is_event(node.orelse, given)
    if isinstance(node, ast.Attribute) and node.attr == "value":
        return is_event(node.value, given)
    if isinstance(node, ast.Attribute):
        return isinstance(node.value, ast.Name) and node.value.id == "LogEvent"
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id in given
    return isinstance(node, ast.Name) and node.id in given


def made_of_events(tree: ast.AST) -> frozenset[str]:
    """Return the names that hold a ``LogEvent``: assigned from one, annotated as one, or functions returning one."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.returns is not None and "LogEvent" in ast.unparse(node.returns):
            found.add(node.name)
        if isinstance(node, ast.arg) and node.annotation is not None and ast.unparse(node.annotation) == "LogEvent":
            found.add(node.arg)
        if isinstance(node, ast.Assign | ast.NamedExpr) and "LogEvent." in ast.unparse(node.value):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
    # A name taken from a table of events: event = _EVENTS.get(action).
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign | ast.NamedExpr):
            used = {inner.id for inner in ast.walk(node.value) if isinstance(inner, ast.Name)}
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if used & found:
                found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return frozenset(found)


def faults(source: str) -> list[str]:
    """Return what is wrong with the log calls of a module."""
    tree = ast.parse(source)
    given, wrong = made_of_events(tree), []
    for call in log_calls(tree):
        if not call.args or not is_event(call.args[0], given):
            wrong.append(f"line {call.lineno}: {ast.unparse(call)[:100]} has no LogEvent as its event")
        shown = " ".join(ast.unparse(one) for one in (*call.args[1:], *(k.value for k in call.keywords))).lower()
        shown += " ".join(keyword.arg or "" for keyword in call.keywords)
        wrong += [f"line {call.lineno}: logs something called {word}" for word in SECRETS if word in shown]
    return wrong


@pytest.mark.parametrize("room", ROOMS)
def test_every_log_line_is_an_event_of_the_list(room: str) -> None:
    found = {str(path.relative_to(ROOT)): faults(path.read_text()) for path in sorted((ROOT / room).rglob("*.py"))}
    assert {path: wrong for path, wrong in found.items() if wrong} == {}


def test_the_scan_sees_the_log_calls_there_are() -> None:
    counted = sum(
        len(list(log_calls(ast.parse(path.read_text())))) for room in ROOMS for path in (ROOT / room).rglob("*.py")
    )
    assert counted > 20


@pytest.mark.parametrize(
    "line",
    [
        "log.info('ready')",
        "log.error(f'{name} died')",
        "_log.warning(event)",
        "self._log.info()",
        "log.info(LogEvent.READY, password=text)",
        "log.info(LogEvent.READY, why=settings.secret())",
    ],
)
def test_the_scan_refuses_free_text_and_secrets(line: str) -> None:
    assert faults(line) != []
