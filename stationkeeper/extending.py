"""What an extension needs besides its protocol: the values that come and go, and the suite that it runs in its tests.

In: nothing. Out: names of the rooms that are promised to third parties (docs/extending.md); all else may move.
"""

from stationkeeper.contracts.codes import DeadLetterCode
from stationkeeper.contracts.messages import Rollout
from stationkeeper.contracts.plugins import NotConforming
from stationkeeper.deploy.settings import TargetSettings
from stationkeeper.deploy.targets import Abilities, ChangedByOthers, Observation, check_target
from stationkeeper.events.conformance import check_decoder
from stationkeeper.monitor.plugins.conformance import check_detector
from stationkeeper.monitor.plugins.port import Alarm, Watched
from stationkeeper.notify import Notice, NotifierSettings, Told, check_notifier
from stationkeeper.retrain.training.conformance import check_trainer
from stationkeeper.retrain.training.encoding import Encoding
from stationkeeper.retrain.training.estimators import EncodedModel
from stationkeeper.retrain.training.trainer import FittedModel, OnnxModel, TrainingData
from stationkeeper.streams.errors import Retryable

__all__ = [
    "Abilities",
    "Alarm",
    "ChangedByOthers",
    "DeadLetterCode",
    "EncodedModel",
    "Encoding",
    "FittedModel",
    "NotConforming",
    "Notice",
    "NotifierSettings",
    "Observation",
    "OnnxModel",
    "Retryable",
    "Rollout",
    "TargetSettings",
    "Told",
    "TrainingData",
    "Watched",
    "check_decoder",
    "check_detector",
    "check_notifier",
    "check_target",
    "check_trainer",
]
