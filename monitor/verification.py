"""What ``verify`` found: how much was compared, what differs, and what could not be compared."""

from dataclasses import asdict, dataclass, field
from typing import Any

_SHOWN = 20


@dataclass(slots=True)
class Verification:
    """What was compared and where it differed; ``differences`` are sentences with the numbers of both sides."""

    records: int = 0
    panes: int = 0
    counts: int = 0
    differences: list[str] = field(default_factory=list)
    unverifiable: list[str] = field(default_factory=list)

    @property
    def equal(self) -> bool:
        """Whether every number that could be compared is equal."""
        return not self.differences

    @property
    def complete(self) -> bool:
        """Whether something was compared, and nothing was left out."""
        return self.counts > 0 and not self.unverifiable

    def compare(self, what: str, told: int, plain: int) -> None:
        """Compare one number."""
        self.counts += 1
        if told != plain:
            self.differences.append(f"{what}: {told}, counted again {plain}")

    def summary(self) -> str:
        """Return the result in words, the first differences with it."""
        lines = [f"{self.records} records counted again: {self.panes} panes, {self.counts} numbers compared"]
        lines += [f"not comparable: {line}" for line in self.unverifiable]
        lines += [f"differs: {line}" for line in self.differences[:_SHOWN]]
        if len(self.differences) > _SHOWN:
            lines.append(f"and {len(self.differences) - _SHOWN} more")
        return "\n".join([*lines, self._verdict()])

    def _verdict(self) -> str:
        if self.differences:
            return f"{len(self.differences)} differences"
        if not self.counts:
            return "nothing could be compared"
        return "equal" if self.complete else "equal as far as it could be compared"

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        return {"equal": self.equal, "complete": self.complete, **asdict(self)}
