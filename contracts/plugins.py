"""How an extension is found: by the name of an entry point, or by its import path ``package.module:Name``."""

import re
from enum import StrEnum
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

IMPORT_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


class PluginGroup(StrEnum):
    """The entry point groups under which other distributions offer extensions; each has a conformance suite."""

    DETECTORS = "stationkeeper.detectors"
    TRAINERS = "stationkeeper.trainers"
    TARGETS = "stationkeeper.targets"
    DECODERS = "stationkeeper.decoders"
    NOTIFIERS = "stationkeeper.notifiers"


class PluginError(ValueError):
    """An extension that is not there or cannot be imported; the message names those there are and what to do."""


class NotConforming(AssertionError):
    """An extension breaks a rule of its protocol; the message says which, and for which example."""


def plugin_names(group: PluginGroup) -> tuple[str, ...]:
    """Return the names that installed distributions offer in a group, sorted; nothing is imported."""
    # Nothing imported, so that one broken extension does not stop a role that uses another.
    return tuple(sorted(entry_points(group=group.value).names))


def load_plugin(group: PluginGroup, name: str) -> Any:
    """Return what an entry point or an import path names, imported now; raises ``PluginError``."""
    # What is installed comes first: its name is what the documents of an extension tell people to write.
    found = entry_points(group=group.value, name=name)
    if not found and IMPORT_PATH.fullmatch(name) is None:
        known = ", ".join(plugin_names(group)) or "none is installed"
        raise PluginError(
            f"{name!r} is not an extension of {group.value} ({known}); install the distribution that offers it, "
            "or write its import path package.module:Name"
        )
    module, _, attribute = next(iter(found)).value.partition(":") if found else name.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except Exception as error:
        # Of any kind: it is another's code that runs here.
        raise PluginError(f"{name!r} of {group.value} cannot be imported: {_told(error)}") from error


def made(group: PluginGroup, name: str) -> Any:
    """Return what a loaded extension makes when it is called without arguments; raises ``PluginError``."""
    make = load_plugin(group, name)
    try:
        return make()
    except Exception as error:
        raise PluginError(f"{name!r} of {group.value} cannot be made: {_told(error)}") from error


def _told(error: Exception) -> str:
    # The text of a KeyError is the key alone, and some errors have none.
    return str(error) if isinstance(error, ImportError | AttributeError) else f"{type(error).__name__}: {error}"
