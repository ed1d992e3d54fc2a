"""Prints one line for each thing the loop does while it happens, on the stream's clock."""

from datetime import UTC, datetime
from typing import Final

from rich.console import Console
from rich.text import Text

from stationkeeper.contracts.messages import (
    Candidate,
    Deployment,
    DeploymentAction,
    Level,
    Message,
    RetrainRequest,
    Verdict,
    VerdictKind,
)
from stationkeeper.contracts.times import format_duration, to_ms

_STYLE: Final = {
    Level.PAGE: "bold red",
    Level.WARN: "yellow",
    Level.INFORM: "dim",
}
_DEPLOYMENT_STYLE: Final = {
    DeploymentAction.PROMOTED: "bold green",
    DeploymentAction.CONFIRMED: "green",
    DeploymentAction.ROLLED_BACK: "bold red",
    DeploymentAction.REFUSED: "red",
    DeploymentAction.HELD: "yellow",
}


class ConsoleLog:
    """Prints messages as lines ``day time  what``; verdicts that only inform are counted, not printed."""

    def __init__(self, console: Console, start_ms: int, onset_ms: int | None) -> None:
        self._console = console
        self._start_ms = start_ms
        self._onset_ms = onset_ms
        self.quiet = 0

    def write(self, time_ms: int, text: str, style: str = "") -> None:
        """Print ``text`` with the day and time of the stream time ``time_ms``."""
        day = (time_ms - self._start_ms) // 86_400_000 + 1
        clock = datetime.fromtimestamp(time_ms / 1_000, tz=UTC)
        line = Text(f"  day {day:>3}  {clock:%b %d %H:%M}  ", style="cyan")
        line.append(text, style=style)
        self._console.print(line, soft_wrap=True)

    def show(self, message: Message) -> None:
        """Print a message of the loop; verdicts that only inform are counted."""
        match message:
            case Verdict():
                self._verdict(message)
            case RetrainRequest(withdrawn=why) if why:
                self.write(to_ms(message.time), f"→ request {message.id} withdrawn: {why}", "bold")
            case RetrainRequest(cure=cure) if cure:
                # Its verdict says the same, with the time.
                return
            case RetrainRequest():
                subjects = ", ".join(message.subjects[:4]) + (" …" if len(message.subjects) > 4 else "")
                self.write(
                    to_ms(message.time), f"→ retraining requested ({message.cause}; {subjects}) {message.id}", "bold"
                )
            case Candidate():
                self.write(
                    to_ms(message.time),
                    f"✓ version {message.version} trained, gate {message.gate}: {message.gate_reason}",
                    "bold",
                )
            case Deployment():
                self._deployment(message)

    def _verdict(self, verdict: Verdict) -> None:
        if verdict.level is Level.INFORM and verdict.kind not in {VerdictKind.RECOVERED, VerdictKind.CURE}:
            self.quiet += 1
            return
        time_ms = to_ms(verdict.time)
        since = ""
        if self._onset_ms is not None and time_ms >= self._onset_ms and verdict.level is Level.PAGE:
            since = f"  [{format_duration((time_ms - self._onset_ms) // 60_000 * 60_000)} after the planted moment]"
        mark = "▲ PAGE" if verdict.level is Level.PAGE else "△ " + verdict.level.value
        if verdict.kind is VerdictKind.RECOVERED:
            mark = "○ recovered"
        self.write(
            time_ms, f"{mark}  {verdict.kind} · {verdict.subject.name}: {verdict.reason}{since}", _STYLE[verdict.level]
        )

    def _deployment(self, deployment: Deployment) -> None:
        share = f"{deployment.weight_bp / 100:g} %"
        text = {
            DeploymentAction.ADOPTED: f"● version {deployment.champion} is champion",
            DeploymentAction.STARTED: f"◔ canary: version {deployment.canary} takes {share}",
            DeploymentAction.STEP: f"◑ canary: version {deployment.canary} takes {share}",
            DeploymentAction.HELD: f"◌ canary held at {share}",
            DeploymentAction.PROMOTED: f"★ version {deployment.champion} promoted",
            DeploymentAction.ROLLED_BACK: f"✗ version {deployment.canary} rolled back",
            DeploymentAction.REFUSED: "✗ candidate refused",
            DeploymentAction.CONFIRMED: f"✔ version {deployment.champion} confirmed by its labels",
        }[deployment.action]
        self.write(to_ms(deployment.time), f"{text}: {deployment.reason}", _DEPLOYMENT_STYLE.get(deployment.action, ""))
