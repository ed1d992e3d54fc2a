"""Internal topics whose partitions were changed: keys are placed by their number, so nothing may start on them."""

from collections.abc import Mapping

from streams.errors import Fatal
from streams.ports import Reader


def refuse_reshaped(reader: Reader, internal: Mapping[str, int]) -> None:
    """Raise ``Fatal`` where a topic that exists has another number of partitions than ``internal`` says."""
    found = {name: len(reader.partitions(name)) for name in internal}
    wrong = [
        f"{name} has {found[name]} partitions, must have {wanted}"
        for name, wanted in internal.items()
        if found[name] not in {0, wanted}
    ]
    if wrong:
        raise Fatal(
            f"{'; '.join(wrong)}. Keys are placed by this number: delete the topic, or choose another kafka.prefix"
        )
