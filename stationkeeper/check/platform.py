"""What retraining and rollouts need beside Kafka: the registry, the trainers, the servers that take the traffic."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Final

from stationkeeper.check.finding import SetupCheck
from stationkeeper.config import Config
from stationkeeper.contracts.masking import masked
from stationkeeper.contracts.plugins import PluginError
from stationkeeper.deploy.controller.queries import ask
from stationkeeper.deploy.targets import abilities_of, serves, target_for
from stationkeeper.notify.notifier import notifier_for
from stationkeeper.process.wiring import target_settings
from stationkeeper.registry import Registry
from stationkeeper.retrain.snapshot.object_store import ObjectStore
from stationkeeper.retrain.training.process import search_path
from stationkeeper.streams.errors import Retryable

# Importing a trainer's libraries takes seconds on a cold disk; one that takes a minute waits for something.
_IMPORT_S: Final = 60.0
# In a process of its own, as a training is: what a trainer's module does when it is imported must not end `check`.
_LOAD: Final = (
    "import json, sys; from stationkeeper.retrain.training.trainer import load_trainer;"
    "load_trainer(sys.argv[1], json.loads(sys.argv[2]))"
)


def check_notifiers(config: Config) -> Iterator[SetupCheck]:
    """Yield for each notifier whether it can be made; nothing is told, which ``stationkeeper notify`` does."""
    for name, settings in config.notifiers.items():
        try:
            notifier_for(settings)
        except (PluginError, ValueError) as error:
            yield SetupCheck(f"notifier {name}", "failed", str(error))
        else:
            yield SetupCheck(f"notifier {name}", "ok", f"{settings.kind}; stationkeeper notify {name} tells it a trial")


def check_platform(config: Config) -> Iterator[SetupCheck]:
    """Yield what is found of registry, trainers and targets, all of which only ``retrain:`` needs."""
    if not any(model.retrain for model in config.models.values()):
        yield SetupCheck("registry", "ok", "not needed: no model has a retrain: section")
        return
    yield _registry(config)
    if config.snapshots.object_store is not None:
        yield _object_store(config.snapshots.object_store)
    trainers = [(one.retrain.trainer, one.retrain.parameters) for one in config.models.values() if one.retrain]
    # Two models may give one trainer the same parameters: it is tried once.
    for name, parameters in sorted({(name, json.dumps(given, sort_keys=True)) for name, given in trainers}):
        yield check_trainer(name, parameters)
    yield from check_targets(config)
    yield from check_queries(config)


def _registry(config: Config) -> SetupCheck:
    try:
        Registry(config.registry).ping()
    except Retryable as error:
        return SetupCheck("registry", "failed", str(error))
    return SetupCheck("registry", "ok", config.registry.tracking_uri)


def _object_store(url: str) -> SetupCheck:
    store = ObjectStore(url)
    try:
        probe = store.probe()
        found = store.written()
    except Retryable as error:
        return SetupCheck("snapshots", "failed", str(error))
    if probe == math.inf:
        why = "its driver knows no times, so that no snapshot there is ever old enough to be deleted"
        return SetupCheck("snapshots", "warning", f"{masked(url)}: {why}")
    return SetupCheck("snapshots", "ok", f"{masked(url)} holds {sum(name.endswith('.parquet') for name in found)}")


def check_trainer(name: str, parameters: str = "{}") -> SetupCheck:
    """Import a trainer where a training would find it, and make one with its parameters (JSON)."""
    # A trainer of the person's own lies in the working directory, where a training looks and this process, started with
    # a safe path, does not.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(search_path())}
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", _LOAD, name, parameters],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=_IMPORT_S,
        )
    except subprocess.TimeoutExpired:
        return SetupCheck(f"trainer {name}", "failed", f"its import takes longer than {_IMPORT_S:g} s")
    if done.returncode == 0:
        return SetupCheck(f"trainer {name}", "ok", "can be imported")
    last = done.stderr.strip().rpartition("\n")[2] or f"exit code {done.returncode}"
    mend = "install what it needs, or start the roles in the directory that holds its module"
    return SetupCheck(f"trainer {name}", "failed", f"{last}; {mend}")


def check_queries(config: Config) -> Iterator[SetupCheck]:
    """Ask each query of a rollout as if one version were both; before there is a canary no number is no fault."""
    for model, settings in config.models.items():
        for name, query in settings.rollout.queries.items():
            what, answer = f"query {name} of {model}", ask(query, model, "1", "1")
            if answer.error:
                yield SetupCheck(what, "failed", f"{answer.error}; correct rollout.queries.{name}, or start Prometheus")
            elif answer.value is None:
                yield SetupCheck(
                    what, "warning", "no single number for version 1: a canary without one stays at its weight"
                )
            else:
                yield SetupCheck(what, "ok", f"{answer.value:g} for version 1, wanted {query.policy().words()}")


def check_targets(config: Config) -> Iterator[SetupCheck]:
    """Ask each target what it serves; our own server may not have been started yet, one with a url must answer."""
    for given, settings in zip(config.targets, target_settings(config), strict=True):
        what = f"target {given.kind}"
        try:
            target = target_for(settings)
            mine = [model for model in config.models if serves(target, model)]
            for model in mine:
                target.observe(model)
        except Retryable as error:
            if given.url or given.kind != "router":
                yield SetupCheck(what, "failed", f"{error}; start it, or correct targets: url")
            else:
                mend = "stationkeeper serve or up starts it; elsewhere give targets: [{kind: router, url: …}]"
                yield SetupCheck(what, "warning", f"{error}: rollouts wait for it. {mend}")
        # Of any kind: a target may be a plugin's, and a platform's answer may be of a shape that it does not know.
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told
            yield SetupCheck(what, "failed", str(error) or type(error).__name__)
        else:
            yield SetupCheck(what, "ok", f"{settings.url or given.kind} answers")
            for model in mine:
                policy = config.models[model].rollout.policy()
                for refused, limit in abilities_of(target).limits(policy.steps_bp, policy.holdback_bp):
                    yield SetupCheck(f"{what} for {model}", "failed" if refused else "warning", limit)
