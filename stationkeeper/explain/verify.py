"""The digests of a chain checked again: what the log names against the bytes that lie where it says."""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from stationkeeper.contracts.identity import candidate_id, request_id
from stationkeeper.contracts.messages import Candidate
from stationkeeper.explain.lineage import Chain
from stationkeeper.registry import ArtifactError, ModelCard, Registry
from stationkeeper.retrain.snapshot.files import SnapshotError
from stationkeeper.retrain.snapshot.snapshot import SnapshotStore
from stationkeeper.streams.errors import Retryable

CheckState = Literal["ok", "wrong", "not checked"]


@dataclass(frozen=True, slots=True)
class DigestCheck:
    """One thing that was checked: ``wrong`` is another content than the log says, ``not checked`` says why."""

    what: str
    state: CheckState
    detail: str

    def to_json(self) -> dict[str, str]:
        """Return plain data."""
        return asdict(self)


def verify_chain(
    chain: Chain,
    store: SnapshotStore,
    registry: Registry,
    references: Mapping[str, Any],
    code_of: Callable[[str], str | None],
) -> list[DigestCheck]:
    """Check ids, snapshot, artifact, reference and recipe of a chain; reads the whole snapshot and artifact.

    ``references`` are those of the model that the topic holds by digest, read back and hashed by whoever read them;
    ``code_of`` gives the digest of a trainer's code as it is here, None where there is no such trainer.
    """
    found = []
    # A person's request has an id of its own: only the monitor's is a digest of what it asks for.
    if (request := chain.request) is not None and not request.manual:
        wanted = request_id(request.model, request.version, request.incident)
        found.append(_same("request id", request.id, wanted, "the id of its model, version and incident"))
    candidate = chain.candidate
    if candidate is None:
        return [
            *found,
            DigestCheck("snapshot, artifact, reference, recipe", "not checked", "the chain has no candidate"),
        ]
    found.append(_same("candidate id", candidate.id, candidate_id(candidate.request), "the id of its request"))
    found += [_snapshot(candidate, store), *_artifact(candidate, registry, code_of)]
    if candidate.reference in references:
        known = references[candidate.reference]
        found.append(_same("reference", known.version, candidate.version, "its version; the content has its digest"))
    else:
        why = f"{candidate.reference} is not in the topic: another one was written for the version, or it was damaged"
        found.append(DigestCheck("reference", "not checked", why))
    return found


def _same(what: str, is_: str, wanted: str, meaning: str) -> DigestCheck:
    if is_ == wanted:
        return DigestCheck(what, "ok", f"{is_} is {meaning}")
    return DigestCheck(what, "wrong", f"it is {is_}, {meaning} would be {wanted}")


def _snapshot(candidate: Candidate, store: SnapshotStore) -> DigestCheck:
    digest = candidate.snapshot
    try:
        snapshot = store.find(digest)
    except SnapshotError as error:
        return DigestCheck("snapshot", "wrong", str(error))
    except (Retryable, OSError) as error:
        return DigestCheck("snapshot", "not checked", str(error))
    # Absent is not wrong: snapshots lie on the trainer's machine, and those that no version names are deleted.
    if snapshot is None:
        # Where an object store is set it is everybody's.
        why = "" if store.objects else "run this where the role retrain runs, or "
        why = f"{digest} is not in {store.place}: {why}it was deleted"
        return DigestCheck("snapshot", "not checked", why)
    # An erasure writes the rest under a digest of its own: the old bytes must not be there to be checked.
    if snapshot.digest != digest:
        why = f"somebody was erased from {digest}; what became of it, {snapshot.digest}, has its SHA-256"
        return DigestCheck("snapshot", "not checked", why)
    return DigestCheck("snapshot", "ok", f"{snapshot.path} ({snapshot.rows} rows) has the SHA-256 {digest}")


def _artifact(candidate: Candidate, registry: Registry, code_of: Callable[[str], str | None]) -> list[DigestCheck]:
    """The graph against the log, and what its card and its version say of request, snapshot and recipe."""
    named = f"version {candidate.version} of {candidate.model}"
    try:
        with tempfile.TemporaryDirectory() as scratch:
            # Its bytes are hashed on the way, against the card and the version's tag.
            card = registry.download(candidate.model, candidate.version, Path(scratch) / "artifact")
        tags = registry.tags(candidate.model, candidate.version)
    except ArtifactError as error:
        return [DigestCheck("artifact", "wrong", str(error))]
    # A registry that does not answer says nothing of the bytes: a person tries again.
    except Retryable as error:
        return [DigestCheck("artifact, recipe", "not checked", str(error))]
    # Candidates of older builds carry no digest of the graph.
    stated = candidate.evidence.get("onnx_sha256")
    if stated is None:
        first = DigestCheck("artifact", "not checked", f"the candidate of {named} does not say its digest")
    else:
        first = _same(f"artifact of {named}", card.onnx_sha256, str(stated), "what the candidate says")
    ties = [("snapshot", candidate.snapshot), ("request", candidate.request)]
    tied = [_same(f"tag {name} of {named}", tags.get(name, "none"), wanted, "the log's") for name, wanted in ties]
    return [first, *tied, _recipe(card, tags, code_of)]


def _recipe(card: ModelCard, tags: Mapping[str, str], code_of: Callable[[str], str | None]) -> DigestCheck:
    stated, here = tags.get("code"), code_of(card.trainer) if card.trainer else None
    if stated is None or here is None:
        why = f"there is no trainer {card.trainer!r} here" if stated else "the version names no code"
        return DigestCheck("recipe", "not checked", why)
    if stated != here:
        # Not wrong: a program that was upgraded since has other code, and the version says which it was made by.
        why = f"the code of {card.trainer} is {here[:16]} here, it was made by {stated[:16]}: upgraded since?"
        return DigestCheck("recipe", "not checked", why)
    return DigestCheck(
        "recipe", "ok", f"{card.trainer} has the code {stated[:16]} that made it, seed {tags.get('seed', '?')}"
    )


def verified_text(checks: list[DigestCheck]) -> str:
    """Return the checks as lines, what is wrong first."""
    # What is wrong is why a person asked; a long list of what is well would hide it.
    order: dict[CheckState, int] = {"wrong": 0, "not checked": 1, "ok": 2}
    ordered = sorted(checks, key=lambda one: order[one.state])
    return "\n".join(["VERIFIED", *(f"  {one.state}: {one.what}: {one.detail}" for one in ordered)])
