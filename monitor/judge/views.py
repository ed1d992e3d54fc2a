"""What people and Prometheus see of the models a judge owns, as of its last commit."""

from collections.abc import Callable, Iterable
from typing import Literal, Protocol

from stationkeeper.contracts.metrics import Sample
from stationkeeper.contracts.model_status import ModelStatus
from stationkeeper.contracts.status import JudgeStatus
from stationkeeper.monitor.core.reasons import UNKNOWN_HELP, Unknown
from stationkeeper.monitor.judge.model import ModelJudge

Clock = Literal["wall", "stream"]


class View(Protocol):
    """A model as people and Prometheus see it; a room above brings one (`monitor.status.ModelView`)."""

    status: ModelStatus | None
    samples: list[Sample]

    def glance(self, left: int) -> None:
        """See a pane that closed with ``left`` more behind it, as after a silence."""

    def refresh(self) -> None:
        """Read everything anew, once a flush in which a pane closed."""

    def advance(self) -> None:
        """See that the watermark moved and no pane closed."""


class Views:
    """One view a model; what they show becomes visible with the commit of what was decided."""

    def __init__(self, make: Callable[[ModelJudge], View]) -> None:
        self._make = make
        self._judges: dict[str, ModelJudge] = {}
        self._views: dict[str, View] = {}
        self.status: JudgeStatus = {"role": "judge", "models": []}
        self.samples: list[Sample] = []

    def add(self, judge: ModelJudge) -> None:
        """Show a model from now on."""
        self._judges[judge.name] = judge
        self._views[judge.name] = self._make(judge)

    def forget(self) -> None:
        """Show no model any more."""
        self._judges.clear()
        self._views.clear()
        self.status, self.samples = {"role": "judge", "models": []}, []

    def of(self, name: str) -> View:
        """Return the view of a model."""
        return self._views[name]

    def glance(self, name: str, left: int) -> None:
        """Show a view a closed pane; a page that knew of no event says how much of a backlog is left."""
        self._views[name].glance(left)
        # Before the commit, which a backlog of days holds up for minutes: it is about the work and decides nothing.
        waiting = UNKNOWN_HELP[Unknown.CATCHING_UP]
        unsaid = (UNKNOWN_HELP[Unknown.NO_ROWS], waiting)
        for at, model in enumerate(self.status["models"]):
            if model["model"] == name and model["reason"].startswith(unsaid):
                self.status["models"][at] = {**model, "reason": f"{waiting} {left} panes wait."}

    def refresh(self, models: Iterable[str]) -> None:
        """Read models anew in which a pane closed."""
        for name in models:
            self._views[name].refresh()

    def committed(self) -> None:
        """Show what is now durable."""
        views = [view for _, view in sorted(self._views.items())]
        # A model whose state is not built yet has no status: it is left out, not shown as unknown.
        self.status = {"role": "judge", "models": [view.status for view in views if view.status is not None]}
        self.samples = [sample for view in views for sample in view.samples]
        judges = sorted(self._judges.items())
        counts = {name: judge.watches.refused for name, judge in judges}
        refused = {f"panes of {name} without a watch": count for name, count in counts.items() if count}
        unable = {f"{d} of {name}": why for name, judge in judges for d, why in judge.watches.unable.items()}
        if refused or unable:
            self.status["detail"] = {**refused, **unable}
        if refused:
            self.samples.append(Sample("stationkeeper_limits_refused_total", ("watches",), sum(refused.values())))
