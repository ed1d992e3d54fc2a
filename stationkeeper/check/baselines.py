"""What the log knows of each model's baseline, for ``check``: which reference, since when, and how far adoption is."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from stationkeeper.contracts.identity import partition_of
from stationkeeper.contracts.messages import Rollout
from stationkeeper.contracts.state import state_of
from stationkeeper.contracts.topics import Topics
from stationkeeper.explain.lineage import read_messages
from stationkeeper.monitor.core.adoption import AdoptionPeriod, AdoptionState
from stationkeeper.monitor.core.reference import InvalidReference, Reference, load
from stationkeeper.monitor.settings import DAY_MS, ModelSettings
from stationkeeper.monitor.state_codec import gather
from stationkeeper.streams.errors import Fatal
from stationkeeper.streams.ports import Partition, Reader


@dataclass(frozen=True, slots=True)
class Baseline:
    """One model's reference in words; ``known`` is False where there is none yet."""

    model: str
    words: str
    known: bool = False


@dataclass(frozen=True, slots=True)
class KnownReferences:
    """Each model's references by version, in the order written (None: cannot be read), and the champions of the log."""

    versions: Mapping[str, Mapping[str, Reference | None]]
    champions: Mapping[str, str]

    def champion(self, model: str) -> str | None:
        """Return the version that judges a model: the log's champion, else the version profiled last."""
        # Before anything was deployed the monitor judges by the reference that was written last.
        return self.champions.get(model) or next(reversed([*self.versions.get(model, ())]), None)

    def reference(self, model: str, version: str | None = None) -> Reference | None:
        """Return the reference that judges events of a version: its own, else the champion's."""
        mine = self.versions.get(model, {})
        found = mine.get(version) if version is not None else None
        champion = self.champion(model)
        return found if found is not None or champion is None else mine.get(champion)


def known_references(reader: Reader, topics: Topics) -> KnownReferences:
    """Return what the log says of references and champions now. O(records)."""
    references: dict[str, dict[str, Reference | None]] = {}
    for batch in reader.read(list(reader.partitions(topics.references.name))):
        for key, value in zip(batch.keys, batch.values, strict=True):
            model, _, version = (key or b"").decode(errors="backslashreplace").partition("/")
            mine = references.setdefault(model, {})
            # Popped and set again, so that the one written last stands at the end.
            mine.pop(version, None)
            if value is not None:
                try:
                    mine[version] = load(value)
                except InvalidReference:
                    mine[version] = None
    return KnownReferences(
        references, {r.model: r.champion for r in read_messages(reader, topics.rollouts.name, Rollout)}
    )


def baselines(
    known: KnownReferences, reader: Reader, topics: Topics, models: Mapping[str, ModelSettings]
) -> Iterator[Baseline]:
    """Yield the baseline of each model's champion, as the log has it now."""
    for name, settings in models.items():
        mine = known.versions.get(name, {})
        champion = known.champion(name)
        if champion is None or champion not in mine:
            which = "no reference" if champion is None else f"no reference of its champion {champion}"
            yield Baseline(name, f"{which}: drift is unknown; stationkeeper profile FILE --publish gives one")
            continue
        reference = mine[champion]
        if reference is None:
            yield Baseline(name, f"the reference of version {champion} cannot be read; profile it again")
        else:
            words = f"{_words(reference, settings, reader, topics)}{_hours(reference, settings)}"
            yield Baseline(
                name, f"version {champion}, {reference.rows:,} rows of {reference.source}{words}", known=True
            )


def _words(reference: Reference, settings: ModelSettings, reader: Reader, topics: Topics) -> str:
    if reference.adopted:
        return ", in order of time: judged at once"
    if not settings.adoption:
        return ", without order of time: judged at once, as if rows were independent (adoption: 0d)"
    period = AdoptionPeriod(reference, settings.adoption)
    for state in _watches(reader, topics, reference, settings.name):
        if state["adoption"] is None:
            return f", without order of time: adopted from {state['rows']:,} live rows"
        period.restore(state_of(state["adoption"], AdoptionState))
    if period.begin is None:
        days = f"{settings.adoption / DAY_MS:g} days"
        return f", without order of time: its first {days} of live panes teach it, and until then only quality pages"
    return f", without order of time; {period.progress()}, until then only quality pages"


def _hours(reference: Reference, settings: ModelSettings) -> str:
    """What is to be said where the reference knows hours by another clock than the model's."""
    if not reference.has_hours or reference.timezone == settings.timezone:
        return ""
    return (
        f"; its hours are those of {reference.timezone}: profile it again (--timezone {settings.timezone}) for those "
        "of the model's timezone"
    )


def _watches(reader: Reader, topics: Topics, reference: Reference, model: str) -> Iterator[Mapping[str, Any]]:
    """The judge's saved watch of all traffic under this reference, if it has one."""
    partition = Partition(topics.judge_state.name, partition_of(model, topics.judge_state.partitions))
    if partition not in reader.partitions(topics.judge_state.name):
        return
    wanted = f"{model}/watch/{reference.version}/{reference.digest}/-"
    values: dict[bytes, bytes] = {}
    for batch in reader.read([partition]):
        for key, value in zip(batch.keys, batch.values, strict=True):
            if key is not None and key.decode().rpartition("/")[0] == wanted:
                values.pop(key, None)
                if value is not None:
                    values[key] = value
    try:
        states = gather(values).values()
    except Fatal:
        # Read in the middle of a write, or written by another version: the judge itself says more.
        return
    for state in states:
        if state is not None:
            yield state["watch"]
