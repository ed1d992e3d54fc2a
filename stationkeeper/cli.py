"""The one command: verbs are declared here and do their work elsewhere, imported when called.

Exit codes: 0 done; 1 the thing asked about failed (a demo that did not close, a gate that failed); 2 wrong use or
configuration; 3 no evidence (gate); 4 a broker, registry or target could not be reached.
"""

import contextlib
import gc
import logging
import re
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Callable
from importlib import metadata
from types import TracebackType
from typing import Annotated, Any, Final

import typer

from stationkeeper.commands import data, erase, loop, operate, plan, rejected, rollout, topics
from stationkeeper.commands.options import EXIT_USAGE
from stationkeeper.contracts.masking import masked

# 1 is what Python itself exits with after an error.
EXIT_FAILED: Final = 1
# After 3, which is the gate's NO-EVIDENCE: a script may try again on 4 alone.
EXIT_UNREACHABLE: Final = 4
ROOMS: Final = frozenset({"contracts", "streams", "monitor", "retrain", "deploy", "stationkeeper"})

app = typer.Typer(
    name="stationkeeper",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
deployments = typer.Typer(no_args_is_help=True, help="List and show rollouts; adopt, approve, reject, roll back.")
requests = typer.Typer(no_args_is_help=True, help="List retrain requests; approve or reject them.")
evidently_group = typer.Typer(no_args_is_help=True, help="Work with Evidently: write its report of our data.")
retrain_group = typer.Typer(
    invoke_without_command=True, callback=loop.retrain_or_verb, help=loop.retrain_or_verb.__doc__
)
dead_letters = typer.Typer(no_args_is_help=True, help="List rejected records by code, show one, replay them.")
config_group = typer.Typer(no_args_is_help=True, help="Show the configuration in force; print its JSON Schema.")
input_topics = typer.Typer(no_args_is_help=True, help="List input topics; read one on that was stopped.")

VERBS: tuple[Callable[..., Any], ...] = (
    *(loop.demo, loop.up, loop.monitor, loop.deploy, loop.serve, loop.broker),
    *(data.init, data.profile, data.backtest, data.explain, data.report, data.verify, data.dump),
    *(operate.check, operate.notify, operate.gate, erase.erase, plan.plan),
)
GROUPS: dict[str, tuple[typer.Typer, dict[str, Callable[..., Any]]]] = {
    "deployments": (deployments, operate.DEPLOYMENT_VERBS | rollout.ROLLOUT_VERBS),
    "retrain": (retrain_group, {"verify": loop.verify_version}),
    "requests": (requests, operate.REQUEST_VERBS),
    "dead-letters": (dead_letters, rejected.DEAD_LETTER_VERBS),
    "topics": (input_topics, topics.TOPIC_VERBS),
    "config": (config_group, operate.CONFIG_VERBS),
    "evidently": (evidently_group, data.EVIDENTLY_VERBS),
}


def _say_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"stationkeeper {version('stationkeeper')}")
        raise typer.Exit


@app.callback()
def _main(
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_say_version, is_eager=True)
    ] = False,
) -> None:
    """Watch models in production, retrain them when the world changes, and check that the cure worked."""


for verb in VERBS:
    app.command(verb.__name__)(verb)
for group_name, (group, group_verbs) in GROUPS.items():
    for verb_name, function in group_verbs.items():
        group.command(verb_name)(function)
    app.add_typer(group, name=group_name)


# Typer may carry a click of its own, whose errors the click that is installed beside it does not know.
USAGE_ERROR: Any = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")


def main() -> None:
    """Run the command line; errors made for people are printed as one message, without a traceback."""
    collect_seldom()
    mask_outputs()
    raise SystemExit(guarded(app))


def collect_seldom() -> None:
    """Let Python look for unreachable cycles of objects once in 20 000 new ones, and through old objects rarely."""
    # Nearly all that is made is freed without it: at Python's 700 the looks took an eighth of a restore, one part in 14
    # of a role's imports, and found nothing. Ten times as many would let the few cycles there are, of tracebacks, hold
    # megabytes.
    gc.set_threshold(20_000, 20, 20)


def mask_outputs() -> None:
    """Hide credentials in what this process writes beside our own lines: logs of libraries, and tracebacks."""
    make = logging.getLogRecordFactory()

    def masked_record(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(*args, **kwargs)
        with contextlib.suppress(TypeError, ValueError):
            # A library whose words do not fit its arguments is told so by logging itself.
            record.msg, record.args = masked(record.getMessage()), None
        if record.exc_info and record.exc_info[0] is not None:
            record.exc_text = masked("".join(traceback.format_exception(*record.exc_info))).rstrip()
        return record

    def masked_trace(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        sys.stderr.write(masked("".join(traceback.format_exception(kind, error, trace))))

    logging.setLogRecordFactory(masked_record)
    sys.excepthook = masked_trace
    threading.excepthook = lambda told: masked_trace(
        told.exc_type, told.exc_value or told.exc_type(), told.exc_traceback
    )


# Modules whose package has another name; every other one is named like it.
_PACKAGES: Final = {"google": "google-auth", "sklearn": "scikit-learn"}


def extra_of(module: str) -> str | None:
    """Return the extra that brings a module, None where none does: then its absence is a fault of ours.

    >>> extra_of("sklearn.metrics")
    'retrain'
    """
    top = module.partition(".")[0]
    package = _PACKAGES.get(top, top.replace("_", "-"))
    told = (re.match(r"([\w-]+).*extra == ['\"]([\w-]+)", one) for one in metadata.requires("stationkeeper") or ())
    found = [(one[1], one[2]) for one in told if one]
    # Some extras hold others, as `demo` and `lightgbm` do: they are named only where no smaller one will do.
    sizes = Counter(extra for _, extra in found)
    return min((extra for brings, extra in found if brings == package), key=sizes.__getitem__, default=None)


def guarded(call: Callable[..., Any]) -> int:
    """Run a typer application and turn the project's own errors into a message and an exit code."""
    from stationkeeper.streams.errors import Fatal, Retryable

    try:
        result = call(standalone_mode=False)
    except USAGE_ERROR as error:
        error.show()
        return EXIT_USAGE
    except typer.Abort:
        typer.secho("stopped", err=True)
        return EXIT_FAILED
    except Retryable as error:
        typer.secho(masked(str(error)), err=True, fg="red")
        return EXIT_UNREACHABLE
    except ModuleNotFoundError as error:
        extra = extra_of(error.name or "")
        if extra is None:
            raise
        need = f"this needs the package {error.name}: pip install 'stationkeeper[{extra}]'"
        typer.secho(f"{need}; the demo and a local broker: 'stationkeeper[demo]'", err=True, fg="red")
        return EXIT_USAGE
    except (Fatal, OSError) as error:
        typer.secho(masked(str(error)), err=True, fg="red")
        return EXIT_FAILED
    except (ValueError, RuntimeError) as error:
        # A room's refusal, such as ConfigError, is written for people; the same type from elsewhere is a bug and keeps
        # its trace.
        if type(error).__module__.partition(".")[0] not in ROOMS:
            raise
        typer.secho(masked(str(error)), err=True, fg="red")
        return EXIT_USAGE
    return result if isinstance(result, int) else 0
