"""Wire formats: what turns the value of a record into the JSON object that a form describes."""

import struct
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import msgspec

from stationkeeper.contracts.codes import DeadLetterCode
from stationkeeper.contracts.plugins import PluginError, PluginGroup, made
from stationkeeper.events.faults import Fault
from stationkeeper.events.mapping import Form
from stationkeeper.events.settings import JSON

Headers = Sequence[tuple[str, bytes]]
Decoded = bytes | Mapping[str, Any] | DeadLetterCode
"""JSON text, or an object of what JSON has (None, bool, int, float, str, lists, objects), or why it is neither."""


@runtime_checkable
class Decoder(Protocol):
    """Decodes the records of one topic; made once a topic by calling what the configuration names, without arguments.

    A third party's decoder is chosen by ``decoder: name`` (an entry point of ``stationkeeper.decoders``) or by
    ``decoder: package.module:Name``, and is tried with ``stationkeeper.events.conformance.check_decoder``.
    """

    def decode(self, value: bytes, headers: Headers) -> Decoded:
        """Return the record as JSON text or as an object, or the code under which it is rejected.

        The answer depends on the value and its headers alone, so that a record means the same whenever it is read
        again. A ``ValueError`` is ``not_json`` too; any other exception stops the role. Called for each record that is
        not empty. An object's NaN and infinities become null, which JSON has instead.
        """


class ConfluentJson:
    """JSON in the framing of Confluent's serialisers: a zero byte, the schema's id in four bytes, then the JSON text.

    The schema is not fetched: JSON says its own types, and the form's rules are checked as for plain JSON.
    """

    def decode(self, value: bytes, headers: Headers) -> Decoded:
        """Return the text behind the frame; a record without the frame is ``not_json``."""
        # Longer than the frame: one without text is nothing, and no JSON.
        framed = len(value) > _FRAME.size and value[0] == _MAGIC
        return value[_FRAME.size :] if framed else DeadLetterCode.NOT_JSON


_MAGIC = 0
"""The only version of the frame there is (Confluent Schema Registry, wire format)."""

_FRAME = struct.Struct(">bI")
"""The frame: magic byte and schema id, big endian: five bytes."""


def load_decoder(name: str) -> Decoder | None:
    """Return the decoder of a name, None for JSON as it is; raises ``PluginError``."""
    if name == JSON:
        return None
    found: Any = made(PluginGroup.DECODERS, name)
    if not isinstance(found, Decoder):
        raise PluginError(f"{name!r} is no decoder: it has no method decode(value, headers)")
    return found


class JsonValues:
    """The JSON texts of a topic's records, by its decoder, and the rejections of those that have none."""

    def __init__(self, form: Form) -> None:
        self._decoder = load_decoder(form.decoder)
        self._name, self._max_bytes = form.decoder, form.max_bytes

    def of(
        self, values: Sequence[bytes | None], headers: Sequence[Headers] = ()
    ) -> tuple[Sequence[bytes | None], dict[int, Fault]]:
        """Return a text for each record, None where there is none, and what is wrong with those that were refused.

        Plain JSON passes untouched. The limit on bytes holds for the value and again for its text.
        """
        if self._decoder is None:
            return values, {}
        texts: list[bytes | None] = []
        refused: dict[int, Fault] = {}
        for row, value in enumerate(values):
            texts.append(None)
            if not value:
                continue
            # Before the decoder, which is another's code and may unpack what it is given.
            if len(value) > self._max_bytes:
                refused[row] = (DeadLetterCode.TOO_LARGE, f"{len(value)} bytes, limit {self._max_bytes}")
                continue
            try:
                found = self._decoder.decode(value, headers[row] if headers else ())
            except ValueError:
                found = DeadLetterCode.NOT_JSON
            if isinstance(found, DeadLetterCode):
                refused[row] = (found, f"decoder {self._name}")
            else:
                texts[row] = found if isinstance(found, bytes) else msgspec.json.encode(found)
        return texts, refused
