"""Which version answers whom, as the rollouts log says: weights fall at once, they rise only after loading."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import structlog

from stationkeeper.contracts.log_events import LogEvent
from stationkeeper.contracts.messages import Rollout
from stationkeeper.contracts.times import to_ms
from stationkeeper.deploy.core.split import as_served
from stationkeeper.registry import ArtifactError, ServedModel, ServingRegistry, UnusableHere
from stationkeeper.streams.errors import Retryable, unwritable

_log = structlog.get_logger()
# Loaded versions kept by recency: the one before for a rollback among them. Champion and canary are never dropped, so
# six at worst.
_KEPT = 4
# Waits between tries to load a version: quick for a registry that restarts, then no storm.
_RETRY_S = (0.5, 1.0, 2.0, 5.0)


def wall_ms() -> int:
    """Return the wall clock in UTC milliseconds: what leases are read on."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Traffic:
    """The split of one model as it is applied now; replaced as a whole, so a request sees one consistent split."""

    rollout: Rollout
    champion: ServedModel
    canary: ServedModel | None = None

    def weight_bp(self, now_ms: int) -> int:
        """Return the canary's weight now: zero without a loaded canary and once the lease has lapsed."""
        lease = self.rollout.lease_until
        # The controller or Kafka is gone: nobody watches the canary, so the champion answers alone.
        if self.canary is None or lease is None or now_ms >= to_ms(lease):
            return 0
        return self.rollout.weight_bp


class TrafficTable:
    """Every model's split: ``see`` takes records in log order, a loader thread brings the versions they name.

    A record that lowers the canary's share or takes it away applies within ``see``; one that raises it or brings a
    version applies when that version is in memory. What cannot be loaded is tried again and shown in ``status``.
    """

    def __init__(self, registry: ServingRegistry, now_ms: Callable[[], int] = wall_ms) -> None:
        self._registry = registry
        self.now_ms = now_ms
        self._wanted: dict[str, Rollout] = {}
        self._applied: dict[str, Traffic] = {}
        self._loaded: dict[str, dict[str, ServedModel]] = {}
        self._errors: dict[str, dict[str, str]] = {}
        self._unfit: dict[str, dict[str, ArtifactError]] = {}
        self._dirty = threading.Condition()
        self._queue: dict[str, None] = {}
        self._stopping = False
        self._thread = threading.Thread(target=self._load_forever, name="model-loader", daemon=True)

    def start(self) -> None:
        """Start the loader."""
        self._thread.start()

    def close(self) -> None:
        """Stop the loader; a download under way is left behind."""
        with self._dirty:
            self._stopping = True
            self._dirty.notify_all()
        if self._thread.is_alive():
            # Chosen, as for the follower: a loader between two versions ends at once, a download may take minutes.
            self._thread.join(timeout=5)

    def see(self, model: str, rollout: Rollout | None) -> None:
        """Take in a model's newest record; None takes the model away."""
        with self._dirty:
            if rollout is None:
                self._wanted.pop(model, None)
                self._applied.pop(model, None)
                return
            rollout = as_served(rollout)
            self._wanted[model] = rollout
            now = self._applied.get(model)
            if now is not None:
                # Here and not in the loader: taking traffic away must not wait behind a download.
                self._applied[model] = _restricted(now, rollout)
            self._queue[model] = None
            self._dirty.notify_all()

    def get(self, model: str) -> Traffic | None:
        """Return the split that is applied now, None while the model's champion is not loaded."""
        return self._applied.get(model)

    def known(self) -> tuple[str, ...]:
        """Return the models that the log names."""
        return tuple(sorted(self._wanted))

    def errors(self, model: str) -> dict[str, str]:
        """Return why versions of a model are not loaded, by version."""
        return dict(self._errors.get(model, {}))

    def missing(self, model: str) -> str | None:
        """Return why a model has no split that is applied: none in the log, still loading, or an error; else None."""
        wanted = self._wanted.get(model)
        if self._applied.get(model) is not None:
            return None
        if wanted is None:
            return f"no champion yet; stationkeeper deployments adopt {model} VERSION makes one"
        error = self.errors(model).get(wanted.champion)
        return error or f"loading: champion {wanted.champion} is being fetched"

    def hopeless(self, model: str) -> bool:
        """Return whether no server can answer for a model: the log names no champion, or one that is no model.

        One that this server alone may be unable to load is another's to answer: an image with another onnxruntime
        would otherwise become ready, and replace servers that answer.
        """
        wanted = self._wanted.get(model)
        if self._applied.get(model) is not None or wanted is None:
            return self._applied.get(model) is None
        unfit = self._unfit.get(model, {}).get(wanted.champion)
        return unfit is not None and not isinstance(unfit, UnusableHere)

    def status(self, model: str) -> dict[str, Any]:
        """Return one model's wanted and applied split as JSON."""
        wanted, applied, now = self._wanted[model], self._applied.get(model), self.now_ms()
        return {
            "model": model,
            "epoch": wanted.epoch,
            "phase": wanted.phase.value,
            "champion": applied.champion.version if applied else None,
            "canary": applied.canary.version if applied and applied.canary else None,
            "weight_bp": applied.weight_bp(now) if applied else 0,
            "wanted": {"champion": wanted.champion, "canary": wanted.canary, "weight_bp": wanted.weight_bp},
            "lease_until": to_ms(wanted.lease_until) if wanted.lease_until else None,
            "loaded": sorted(self._loaded.get(model, {})),
            "errors": self.errors(model),
            "unfit": {version: str(error) for version, error in list(self._unfit.get(model, {}).items())},
            "proven": sorted(version for version, one in self._loaded.get(model, {}).items() if one.proven),
        }

    def _load_forever(self) -> None:
        failures = 0
        while True:
            with self._dirty:
                if not self._queue and not self._stopping:
                    self._dirty.wait()
                if self._stopping:
                    return
                model = next(iter(self._queue))
                del self._queue[model]
                rollout = self._wanted.get(model)
            if rollout is None or self._apply(model, rollout):
                failures = 0
                continue
            with self._dirty:
                # Behind the others: a version that cannot be had must not keep other models' versions from being
                # loaded.
                self._queue.setdefault(model, None)
                self._dirty.wait(_RETRY_S[min(failures, len(_RETRY_S) - 1)])
            failures += 1

    def _apply(self, model: str, rollout: Rollout) -> bool:
        """Load what a record names and apply it unless a newer one has come; returns whether all was loaded."""
        champion = self._version(model, rollout.champion)
        canary = self._version(model, rollout.canary) if rollout.canary else None
        with self._dirty:
            newest = self._wanted.get(model)
            # While the versions were fetched a newer record may have named others: that one is in the queue, this one
            # is over.
            if newest is None or (newest.epoch, newest.champion, newest.canary) != (
                rollout.epoch,
                rollout.champion,
                rollout.canary,
            ):
                return True
            if champion is not None:
                # The newest record, not the one that was loaded for: its weight may have fallen meanwhile.
                self._applied[model] = Traffic(newest, champion, canary)
            self._forget(model, newest)
        return champion is not None and (canary is not None or rollout.canary is None)

    def _version(self, model: str, version: str) -> ServedModel | None:
        held = self._loaded.setdefault(model, {})
        if version in held:
            # Dicts keep the order of insertion: popped and set again it is the most recently used.
            held[version] = held.pop(version)
            return held[version]
        errors = self._errors.setdefault(model, {})
        try:
            loaded = ServedModel.load(self._registry.fetch(model, version), model, version)
        except Retryable as error:
            errors[version] = str(error)
            event = LogEvent.DISK_UNWRITABLE if unwritable(error) else LogEvent.REGISTRY_UNREACHABLE
            _log.warning(event, model=model, version=version, error=str(error))
            return None
        except ArtifactError as error:
            # Unfit is what no retry mends; the controller reads it and rolls the canary back at once instead of at the
            # deadline.
            self._unfit.setdefault(model, {})[version] = error
            errors[version] = str(error)
            _log.error(LogEvent.MODEL_LOADED, model=model, version=version, error=str(error))
            return None
        except Exception as error:  # noqa: BLE001 - one version must not end the thread that loads all others
            errors[version] = f"{type(error).__name__}: {error}"
            _log.exception(LogEvent.MODEL_LOADED, model=model, version=version)
            return None
        errors.pop(version, None)
        self._unfit.get(model, {}).pop(version, None)
        held[version] = loaded
        _log.info(LogEvent.MODEL_LOADED, model=model, version=version)
        return loaded

    def _forget(self, model: str, rollout: Rollout) -> None:
        held = self._loaded[model]
        for version in list(held)[: max(len(held) - _KEPT, 0)]:
            if version not in {rollout.champion, rollout.canary}:
                del held[version]


def _restricted(now: Traffic, rollout: Rollout) -> Traffic:
    """Return what of a new record applies before anything is loaded: never more canary than both records allow."""
    # A promotion: the new champion is in memory as canary, so it needs no download.
    if now.canary is not None and rollout.champion == now.canary.version:
        return replace(now, rollout=rollout, champion=now.canary, canary=None)
    same = rollout.champion == now.champion.version
    # Another epoch has another salt, which splits entities anew: the canary waits until the loader applies the new
    # record as a whole.
    if now.canary is None or rollout.canary != now.canary.version or rollout.epoch != now.rollout.epoch or not same:
        return replace(now, canary=None)
    return replace(now, rollout=rollout)
