"""What users import: ``import stationkeeper as sk``; nothing else of this package is promised to stay.

``profile`` builds a ``Reference`` from training rows, ``backtest`` says what the daemon would have said of a frame, and
``client`` logs predictions and labels from a service without making it wait. ``Trainer``, ``Target``, ``Decoder``,
``Notifier`` and ``Detector`` are what an extension satisfies (docs/extending.md). Each is loaded when it is first
named, so that a role that starts pays for none of them. State: none. Beside them this folder is the composition root:
read `cli`, `config` (with `access`, the block ``http:``, and `logs`), `effective` (what set each key),
`process/wiring`, then the room of a verb; `frames` and `client` are the public face, `extending` is what an extension
imports, `capacity` what a load needs. The rooms below it (contracts, streams, events,
registry, monitor, retrain, deploy) lie at the top of the repository and are linked here, so that their import names
collide with nobody's.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stationkeeper import client
    from stationkeeper.deploy.targets.target import Target
    from stationkeeper.events.decoder import Decoder
    from stationkeeper.frames import BacktestResult, backtest, profile
    from stationkeeper.frames import ReferenceFile as Reference
    from stationkeeper.monitor.plugins.port import Detector
    from stationkeeper.notify.notifier import Notifier
    from stationkeeper.retrain.training.trainer import Trainer

__all__ = [
    "BacktestResult",
    "Decoder",
    "Detector",
    "Notifier",
    "Reference",
    "Target",
    "Trainer",
    "backtest",
    "client",
    "profile",
]

_WHERE = {
    "BacktestResult": ("stationkeeper.frames", "BacktestResult"),
    "Decoder": ("stationkeeper.events.decoder", "Decoder"),
    "Detector": ("stationkeeper.monitor.plugins.port", "Detector"),
    "Notifier": ("stationkeeper.notify.notifier", "Notifier"),
    "Reference": ("stationkeeper.frames", "ReferenceFile"),
    "Target": ("stationkeeper.deploy.targets.target", "Target"),
    "Trainer": ("stationkeeper.retrain.training.trainer", "Trainer"),
    "backtest": ("stationkeeper.frames", "backtest"),
    "profile": ("stationkeeper.frames", "profile"),
}


def __getattr__(name: str) -> Any:
    """Load what is named; raises ``AttributeError`` for any other name."""
    if name == "client":
        return import_module("stationkeeper.client")
    if name not in _WHERE:
        raise AttributeError(f"stationkeeper has no {name!r}; it offers {', '.join(__all__)}")
    module, attribute = _WHERE[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
