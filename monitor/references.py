"""The table of references and champions: which frozen cells count an event of a model version."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from stationkeeper.contracts.messages import Rollout
from stationkeeper.monitor.core.reference import NumericCells, Reference, Task, load
from stationkeeper.monitor.settings import ModelSettings

Key = tuple[str, str]

# A rollout has about four: canary, probation, steady, or taken back. So an outage of several rollouts is read as it
# went; at half, a judge that was away for two forgets when the first one ended.
KEPT_ROLLOUTS = 16


class References:
    """What the topics ``references`` and ``rollouts`` say now.

    An event is counted with the reference of its own version, else with the champion's. Without a rollout the
    version whose reference was written last is taken for the champion.
    """

    def __init__(self, models: Mapping[str, ModelSettings]) -> None:
        self._models = models
        self._references: dict[Key, Reference] = {}
        self._by_digest: dict[str, Reference] = {}
        self._rollouts: dict[str, Rollout] = {}
        self._stood: dict[str, tuple[Rollout, ...]] = {}
        self._latest: dict[str, str] = {}
        self._left_out: dict[str, frozenset[str]] = {}
        self.epoch = 0

    def put_reference(self, key: bytes, value: bytes | None) -> Reference | None:
        """See a record of the references topic (key ``model/version``); raises ``InvalidReference``."""
        model, _, version = key.decode().partition("/")
        self.epoch += 1
        if value is None:
            self._references.pop((model, version), None)
            if self._latest.get(model) == version:
                # Then that which was written last of those that are left.
                left = [other for name, other in self._references if name == model]
                self._latest[model] = left[-1] if left else version
            return None
        reference = self._within(load(value))
        # Taken out and put back, so that they stand in the order in which they were written.
        self._references.pop((model, version), None)
        self._references[model, version] = reference
        self._by_digest[reference.digest] = reference
        self._latest[model] = version
        return reference

    def _within(self, reference: Reference) -> Reference:
        """Leave out features beyond ``limits.features``, the least important and then the last first.

        What is left has a digest of its own, so that panes counted under another limit never add to these.
        """
        settings = self._models.get(reference.model)
        features = reference.features
        if settings is None or len(features) <= settings.limits.features:
            return reference
        weight = {one.name: settings.importance.get(one.name, one.importance) for one in features}
        ranked = sorted(features, key=lambda one: -weight[one.name])
        gone = frozenset(one.name for one in ranked[settings.limits.features :])
        made = replace(reference, subjects=tuple(one for one in reference.subjects if one.name not in gone))
        pairs = tuple(one for one in reference.pairs if one.pair and not gone.intersection(one.pair.features))
        made = replace(made, pairs=pairs)
        self._left_out[made.digest] = gone
        return made

    def left_out(self, digest: str) -> frozenset[str]:
        """Return the features that ``limits.features`` left out of a reference."""
        return self._left_out.get(digest, frozenset())

    @property
    def refused(self) -> frozenset[str]:
        """The features, as ``model/feature``, that are not watched because of ``limits.features``."""
        return frozenset(
            f"{model}/{name}"
            for (model, _), reference in self._references.items()
            for name in self.left_out(reference.digest)
        )

    def put_rollout(self, key: bytes, value: bytes | None) -> Rollout | None:
        """See a record of the rollouts topic (key model); raises ``pydantic.ValidationError``."""
        self.epoch += 1
        if value is None:
            self._rollouts.pop(key.decode(), None)
            self._stood.pop(key.decode(), None)
            return None
        rollout = Rollout.decode(value)
        before, self._rollouts[rollout.model] = self._rollouts.get(rollout.model), rollout
        # Most records renew a lease: kept is where each standing began.
        if before is None or _standing(before) != _standing(rollout):
            self._stood[rollout.model] = (*self._stood.get(rollout.model, ()), rollout)[-KEPT_ROLLOUTS:]
        return rollout

    def rollouts(self, model: str) -> tuple[Rollout, ...]:
        """Return the latest records that changed champion, request or phase, oldest first: the last one counts now.

        For who reads panes that it missed: the table is at its end before them. After a start only those are known that
        compaction left.
        """
        return self._stood.get(model, ())

    def rollout(self, model: str) -> Rollout | None:
        """Return the model's rollout, if one was written."""
        return self._rollouts.get(model)

    def champion(self, model: str) -> str | None:
        """Return the champion's version, None before one is known."""
        rollout = self._rollouts.get(model)
        return rollout.champion if rollout is not None else self._latest.get(model)

    def own(self, model: str, version: str) -> Reference | None:
        """Return the version's own reference."""
        return self._references.get((model, version))

    def of(self, model: str, version: str) -> Reference | None:
        """Return the reference that counts events of a version: its own, else the champion's."""
        found = self._references.get((model, version))
        if found is None:
            champion = self.champion(model)
            found = None if champion is None else self._references.get((model, champion))
        return found

    def by_digest(self, digest: str, model: str = "", version: str = "") -> Reference | None:
        """Return a reference by its content's name, also after a newer one took its place.

        Of several that are alike it is that of the version, so that nothing of it is made a second time.
        """
        own = self.own(model, version)
        return own if own is not None and own.digest == digest else self._by_digest.get(digest)

    def of_model(self, model: str) -> Iterator[tuple[str, Reference]]:
        """Yield the versions of a model that have a reference."""
        for (name, version), reference in self._references.items():
            if name == model:
                yield version, reference

    def threshold(self, model: str, version: str) -> float:
        """Return the score from which the version decides for the positive class."""
        settings = self._models.get(model)
        if settings is not None and settings.threshold is not None:
            return settings.threshold
        reference = self.of(model, version)
        # Half, as classifiers decide unless they are told otherwise; it is counted anew once a reference says.
        return 0.5 if reference is None else reference.threshold

    def positive(self, model: str, version: str) -> str:
        """Return the canonical spelling of the positive class."""
        settings = self._models.get(model)
        if settings is not None and settings.positive is not None:
            return settings.positive
        reference = self.of(model, version)
        # As most labels of two classes are written, 0 and 1.
        return "1" if reference is None else reference.positive

    def several(self, model: str, version: str) -> bool:
        """Return whether the version answers with one of several classes, as a reference alone tells."""
        reference = self.of(model, version)
        return reference is not None and reference.task is Task.MULTICLASS

    def features(self, models: tuple[str, ...]) -> dict[str, bool]:
        """Return every feature that a reference of these models knows: whether all of them count it as a number."""
        found: dict[str, bool] = {}
        for (model, _), reference in sorted(self._references.items()):
            if model in models:
                for subject in reference.features:
                    numeric = isinstance(subject.cells, NumericCells)
                    found[subject.name] = found.get(subject.name, True) and numeric
        return found


def _standing(rollout: Rollout) -> tuple[str, str | None, str]:
    return rollout.champion, rollout.request, rollout.phase.value
