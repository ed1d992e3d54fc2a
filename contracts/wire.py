"""The binary records between tally, join and judge: versioned msgpack in zstd, columns as raw little-endian arrays."""

import math
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt
import zstandard

# How often a tally says how far it is: the watermark moves in these steps. Half doubles the records of an idle
# system; twice adds a second to every verdict.
PROGRESS_MS = 1_000


# Written first in every record, so that an older build refuses a newer record instead of misreading it.
FORMAT: Final = 2
BY_PROBABILITY: Final = 3
READ: Final = (1, 2, 3)
"""1: the counts of a pane's block are whole vectors. 2: or those that are not zero, with the steps between them. 3:
right answers of several classes are scored by their probability; written only where there are any, for builds before
would take them for another concept."""

# Half of Kafka's default limit of 1 MiB for a record, so that keys, headers and a part that hardly compresses fit.
PART_BYTES: Final = 512 * 1024
# Even in log-odds they tell .1 % from .2 % as well as 40 % from 60 %; 64 would double every arm's record.
SCORE_BINS: Final = 32

# Quarter octaves from 1/16 ms tell 1.7 times as slow from 1.5 times; 80 of them reach 65 s, beyond which a request has
# failed. Half octaves would hide a canary that is half slower, twice the range would double the record.
LATENCY_BINS: Final = 80
_LEAST_MS = 0.0625
_PER_OCTAVE = 4
# Of a bin: a logarithm's last digits must not carry a ratio that is a whole number of bins to the next one.
_EXACT = 1e-9
# Groups of entities by a hash of their own: 62 degrees of freedom over two arms tell a design effect of 1.4 from 1;
# 128 would quadruple the record to tell 1.2.
ENTITY_GROUPS: Final = 32

Counts = npt.NDArray[np.int64]

JOIN: Final = "join"
LABELS_HELD: Final = "labels held"
"""Source of the progress that history keeps of a pane whose labels were still being read: ``topic`` names the model,
``next_offset`` is the pane's start, ``clock`` the time up to which labels were in, ``idle`` says that labels which came
after the pane had closed follow."""

MOST_STEPS: Final = 1 << 16
"""Positions that a block may have, so that every step between two of them fits its two bytes."""

# Bytes a step or count may have; the narrowest that holds the largest is written.
_WIDTHS = {1: "<u1", 2: "<u2", 4: "<u4", 8: "<i8"}
# zstd's own default: higher levels cost processor time on the hot path for little size.
_LEVEL = 3
# A damaged or hostile record must not ask for all memory when it is opened; the largest that we write is a few MiB.
_MAX_BYTES = 256 * 1024 * 1024
# From -7.5 to 7.5 in log-odds is .06 % to 99.94 %: scores of fraud models live below one per cent.
_LOGIT_EDGES = np.linspace(-7.5, 7.5, SCORE_BINS - 1)
SCORE_EDGES: Final = 1.0 / (1.0 + np.exp(-_LOGIT_EDGES))
"""Inner edges of the score bins that every version shares: 31 edges, .5 apart in log-odds, from -7.5 to 7.5."""

# A table instead of a search for each score: 4 096 steps are finer than the narrowest inner bin (.00036), so that a
# step holds one edge at most, and one comparison settles it. ``_LAST`` keeps a score of 1 in the last step.
_STEPS = 4_096
_LAST = 1.0 - 0.5 / _STEPS
_BIN_OF = np.searchsorted(SCORE_EDGES, np.arange(_STEPS) / _STEPS, side="right")
_NEXT_EDGE = np.append(SCORE_EDGES, np.inf)


class WireError(ValueError):
    """A binary record that this version cannot read."""


class _Record(msgspec.Struct, frozen=True, array_like=True, tag_field="t"):
    pass


class PaneDelta(_Record, frozen=True, tag="pane"):
    """Additive counts of one (model, version, digest, source, segment, pane), a block of the layout's vector.

    ``start`` and ``length`` are event-time milliseconds; ``first`` is the block's first position in a vector of
    ``width``. ``rows`` counts events and is repeated in each block of a pane. With ``size`` 0 ``counts`` are the whole
    block, int64 little-endian. Else the block has ``size`` counts, of which ``counts`` holds those that are not zero,
    all in 1, 2, 4 (unsigned) or 8 bytes, and ``steps`` (uint16) how far each lies from the one before, the first from
    the block's begin. ``new`` counts values that the reference never saw, by subject and value: a few of each, in the
    first block of a pane.
    """

    model: str
    version: str
    digest: str
    source: str
    segment: str
    start: int
    length: int
    rows: int
    first: int
    width: int
    counts: bytes
    size: int = 0
    steps: bytes = b""
    new: dict[str, dict[str, int]] = {}

    def vector(self) -> Counts:
        """Return the block's counts, shape ``(len,)``."""
        if not self.size:
            return np.frombuffer(self.counts, dtype="<i8")
        out = np.zeros(self.size, np.int64)
        self.add_to(out)
        return out

    def add_to(self, block: Counts) -> None:
        """Add the block's counts to a vector of its length."""
        if not self.size:
            block += np.frombuffer(self.counts, dtype="<i8")
        elif self.steps:
            at = np.cumsum(np.frombuffer(self.steps, "<u2"), dtype=np.int64)
            block[at] += np.frombuffer(self.counts, _WIDTHS[len(self.counts) // len(at)])


class Progress(_Record, frozen=True, tag="progress"):
    """How far one input partition has been tallied: next offset, event clock (ms) and whether it is at its end.

    Of the source ``JOIN`` the partition is one of the joins topic, ``idle`` while the join reads it again to rebuild
    its store: no label is joined meanwhile. Of a source ``joined_source`` it is an input partition again, as far as the
    join has paired its events. ``stopped`` says why the topic is not read, empty while it is. ``epoch`` counts how
    often the topic was begun anew, with offsets from 0.
    """

    topic: str
    partition: int
    source: str
    next_offset: int
    clock: int
    idle: bool
    stopped: str = ""
    epoch: int = 0


class ArmDelta(_Record, frozen=True, tag="arm"):
    """What one version did in one pane, in bins that all versions share, so that two arms can be compared.

    ``scores`` is int64[SCORE_BINS] over predictions; ``errors`` counts null predictions; ``positives`` counts
    decisions at the version's own threshold; ``latency_us`` is a fixed-point sum over ``timed`` events.
    ``latencies`` is int64[LATENCY_BINS] over these, ``groups`` int64[3, ENTITY_GROUPS] of rows, errors and positives by
    entity group; both are empty for segments and where no event has a latency, or an entity. ``actions`` has the
    rows by what was done upon the answer and the probability of that (``monitor.core.reference.assigned_sums``).
    """

    model: str
    version: str
    segment: str
    start: int
    length: int
    rows: int
    errors: int
    positives: int
    timed: int
    latency_us: int
    scores: bytes
    latencies: bytes = b""
    groups: bytes = b""
    actions: dict[str, bytes] = {}


class OutcomeDelta(_Record, frozen=True, tag="outcome"):
    """Predictions of one version and pane that met their label: the pane is that of the prediction.

    ``confusion`` is int64[4]: true positive, false positive, false negative, true negative at the version's
    threshold. ``scored`` is int64[SCORE_BINS * 2]: by score bin, label negative then positive. ``loss`` is a
    fixed-point sum (1e-6 units) of the model's loss, e.g. squared error for a number. ``age_ms`` is the summed
    label delay. ``known_at`` is the label pane (event time) that made it known. ``sums`` are those from which measures
    of performance are read (``monitor.core.reference.outcome_sums``); builds before them sent none.

    ``corrected`` above 0 marks a correction: so many predictions got a label that says something else than the one
    before. It has no rows, its sums are signed differences, and it changes charts only: no decision is taken back.

    ``actions`` has the same rows by what was done upon the answer and the probability of that
    (``monitor.core.reference.assigned_sums``); corrections have none.
    """

    model: str
    version: str
    segment: str
    start: int
    length: int
    rows: int
    known_at: int
    confusion: bytes
    scored: bytes
    loss: int
    age_ms: int
    sums: bytes = b""
    corrected: int = 0
    actions: dict[str, bytes] = {}

    @property
    def by_probability(self) -> bool:
        """Whether right answers of several classes are among the scores, which else count no label but positives."""
        scored, confusion = np.frombuffer(self.scored, "<i8"), np.frombuffer(self.confusion, "<i8")
        return int(scored[1::2].sum()) != int(confusion[0:3:2].sum())


class JoinBatch(_Record, frozen=True, tag="join"):
    """Rows of one side for the label join, one model (and version), as a structured array ``JOIN_ROW``.

    A row's ``segment`` is the place of its segments in ``segments``, and of what was done upon the answer in
    ``actions``; that is empty where no row says it, and builds before it pass over it.
    """

    side: str
    model: str
    version: str
    segments: tuple[str, ...]
    rows: bytes
    actions: tuple[str, ...] = ()

    def table(self) -> npt.NDArray[np.void]:
        """Return the rows as a structured array of ``JOIN_ROW``."""
        return np.frombuffer(self.rows, dtype=JOIN_ROW)


JOIN_ROW: Final = np.dtype(
    [
        ("id", "<u8"),
        ("time", "<i8"),
        ("score", "<f4"),
        ("label", "<f4"),
        ("decision", "u1"),
        ("bin", "u1"),
        ("segment", "<u2"),
    ]
)
"""One side of one event in 28 bytes: id hash, event time (ms), score, label, decision, bin, place of its names.

``label`` of a prediction is the probability with which its action was drawn, NaN where unknown: no build read it there.
``decision`` is 1 for a positive one, plus ``OF_CLASSES`` where score and label are the codes of one of several classes,
or ``OF_NUMBERS`` where they are amounts; only a reference tells, so before there is one a row has neither."""

# Bits beside the first, which older builds wrote alone.
OF_CLASSES: Final = 2
OF_NUMBERS: Final = 4


def joined_source(kind: str, index: int) -> str:
    """Return the source of progress that tells how far one joins partition has paired the events of a kind."""
    return f"{kind}@{index}"


Record = PaneDelta | Progress | ArmDelta | OutcomeDelta | JoinBatch
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Record])


def format_of(record: Record) -> int:
    """Return the least format whose readers understand a record."""
    return BY_PROBABILITY if isinstance(record, OutcomeDelta) and record.by_probability else FORMAT


def encode(records: list[Record]) -> bytes:
    """Pack records into one value: a format byte, then zstd of a msgpack list."""
    packed = _encoder.encode(records)
    newest = max(map(format_of, records), default=FORMAT)
    return bytes((newest,)) + zstandard.ZstdCompressor(level=_LEVEL).compress(packed)


def decode(value: bytes) -> list[Record]:
    """Unpack a value written by ``encode``; raises ``WireError`` on another format or damage."""
    if not value or value[0] not in READ:
        found = value[0] if value else "nothing"
        raise WireError(f"binary record has format {found}, this version reads 1 to {READ[-1]}; upgrade this role")
    try:
        packed = zstandard.ZstdDecompressor().decompress(value[1:], max_output_size=_MAX_BYTES)
        return _decoder.decode(packed)
    except (zstandard.ZstdError, msgspec.MsgspecError) as error:
        raise WireError(f"binary record is damaged: {error}") from error


def pack(counts: Counts) -> bytes:
    """Return a count vector as the bytes that a record carries."""
    return np.ascontiguousarray(counts, dtype="<i8").tobytes()


def narrowest(counts: Counts) -> str:
    """Return the type in which ``PaneDelta`` carries these counts."""
    if not len(counts) or counts.min() >= 0:
        most = int(counts.max(initial=0))
        return next((_WIDTHS[bytes_] for bytes_ in (1, 2, 4) if most < 1 << 8 * bytes_), _WIDTHS[8])
    return _WIDTHS[8]


def sparse(counts: Counts) -> tuple[bytes, int, bytes]:
    """Return a block of at most ``MOST_STEPS`` counts as the last three fields of a ``PaneDelta``."""
    if len(counts) > MOST_STEPS:
        raise ValueError(f"a block has at most {MOST_STEPS} counts, got {len(counts)}")
    at = np.flatnonzero(counts)
    steps = np.diff(at, prepend=0).astype("<u2")
    found = counts[at]
    return found.astype(narrowest(found)).tobytes(), len(counts), steps.tobytes()


def latency_bin(milliseconds: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Return the shared bin of each latency: bin ``4 log2(ms / .0625)``, floored, the ends in the outer bins.

    >>> latency_bin(np.array([0.0, 0.0625, 0.125, 1e9])).tolist()
    [0, 0, 4, 79]
    """
    octaves = np.log2(np.maximum(milliseconds, _LEAST_MS) / _LEAST_MS)
    bins: npt.NDArray[np.int64] = np.minimum(octaves * _PER_OCTAVE, LATENCY_BINS - 1).astype(np.int64)
    return bins


def slower_bin(cut: int, ratio: float, more_ms: float) -> int:
    """Return the first bin that holds only latencies ``ratio`` times the start of bin ``cut`` and ``more_ms`` longer.

    Rounded up, for harm: what is tolerated is never counted as slow. Bins are quarter octaves, so that a ratio of 1.5
    takes effect as 1.68 (three bins) and 2 as itself (four). Bin 4 starts at .125 ms and bin 32 at 16 ms: half more of
    these are bins 7 and 35, and 8 ms more 29 (9.5 ms) and 35.

    >>> [slower_bin(cut, 1.5, more) for more in (0.0, 8.0) for cut in (4, 32)]
    [7, 35, 29, 35]
    """
    return math.ceil(_slower(cut, ratio, more_ms) - _EXACT)


def tolerated_bin(cut: int, ratio: float, more_ms: float) -> int:
    """Return the bin in which the start of bin ``cut`` lies once it is ``ratio`` times, and ``more_ms``, longer.

    Rounded down, for non-inferiority: what is slower is never counted as tolerated, so that 2.25 takes effect as 2
    (four bins); one bin (1.19) at least, below which no latency could be shown to be no worse. Bin 0 begins at nothing,
    of which no ratio is longer: without ``more_ms`` it stays where it is, so that two answers in it are a tie.

    >>> [tolerated_bin(cut, 2.25, more) for more in (0.0, 8.0) for cut in (0, 4, 32)]
    [0, 8, 36, 28, 28, 36]
    """
    if not cut:
        return int(latency_bin(np.array([more_ms]))[0])
    return max(cut + 1, math.floor(_slower(cut, ratio, more_ms) + _EXACT))


def _slower(cut: int, ratio: float, more_ms: float) -> float:
    start = _LEAST_MS * 2.0 ** (cut / _PER_OCTAVE)
    return math.log2(max(start * ratio, start + more_ms) / _LEAST_MS) * _PER_OCTAVE


def score_bin(score: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Return the shared bin of each score, shape kept; scores outside [0, 1] fall in the outer bins.

    The same as a binary search for each, five times as quick: a step of ``_STEPS`` holds at most one edge, so that
    one comparison settles what the step leaves open.
    """
    found = _BIN_OF[(np.clip(score, 0.0, _LAST) * _STEPS).astype(np.int64)]
    bins: npt.NDArray[np.int64] = found + (score >= _NEXT_EDGE[found])
    return bins
