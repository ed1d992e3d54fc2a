"""The rollout of a model: steps as stairs, guardrails with their e-values, the audit log."""

from stationkeeper.contracts.status import GuardrailStatus, RolloutStatus, Step
from stationkeeper.page.axes import BOTTOM, LEFT, RIGHT, TOP, WIDTH, Axes, figure
from stationkeeper.page.frame import time_tag
from stationkeeper.page.markup import Html, table, tag
from stationkeeper.page.words import number, percent, plural, sentence

_STEP_WORDS = {"done": "done", "current": "now", "planned": "ahead", "rolled_back": "rolled back"}


def rollout_block(rollout: RolloutStatus) -> Html:
    """Return everything about a rollout: a sentence, the stairs, the guardrails, what was done."""
    canary = rollout.get("canary")
    share = rollout["weight_bp"] / 10_000
    lead = [
        tag("strong", f"Version {rollout['champion']}"),
        " is champion",
        [", ", tag("strong", f"version {canary}"), f" is canary with {percent(share)} of the traffic"]
        if canary
        else [", version ", rollout["holdback"], f" keeps {percent(rollout['holdback_bp'] / 10_000)} of the traffic"]
        if "holdback" in rollout
        else None,
        f". {sentence(rollout['reason'])} Since ",
        time_tag(rollout["since"]),
        ".",
    ]
    steps = rollout.get("steps", [])
    return tag(
        "div",
        tag("p", lead),
        _shadow(rollout),
        tag("div", _stairs(steps), _guardrails(steps), class_="beside") if steps else None,
        _audit(rollout),
    )


def _shadow(rollout: RolloutStatus) -> Html | None:
    # Also on probation: what a person is told then was known before anyone saw it.
    if (words := rollout.get("shadow")) is None:
        return None
    version = rollout.get("canary", rollout["champion"])
    listed = tag("code", f"stationkeeper deployments shadow {rollout['model']} {version}")
    return tag("p", f"Replayed before anyone saw version {version}: {words}. Row by row: ", listed, ".")


def _stairs(steps: list[Step]) -> Html:
    axes = Axes(0.0, len(steps), 0.0, 100.0)
    parts = list(axes.grid((0, 25, 50, 75, 100), unit="\u2009%"))
    floor = axes.height - BOTTOM
    for i, step in enumerate(steps):
        # Eight pixels between two steps; without them the stairs of one colour read as one bar.
        left, wide = axes.x(i) + 4, (WIDTH - LEFT - RIGHT) / len(steps) - 8
        # Basis points: 100 are one per cent, and the axis is in per cent.
        top = axes.y(step["weight_bp"] / 100)
        parts.append(
            tag("rect", x=left, y=top, width=wide, height=max(2.0, floor - top), class_=f"step {step['state']}")
        )
        parts.append(
            tag(
                "text",
                percent(step["weight_bp"] / 10_000),
                x=left + wide / 2,
                y=top - 5 if top - 5 > TOP else top + 14,
                class_="tick middle",
            )
        )
        parts.append(
            tag("text", _STEP_WORDS[step["state"]], x=left + wide / 2, y=axes.height - 8, class_="tick middle")
        )
    description = ", ".join(f"{percent(s['weight_bp'] / 10_000)} {_STEP_WORDS[s['state']]}" for s in steps) + "."
    return figure("Canary steps, share of the traffic", description, parts)


def _guardrails(steps: list[Step]) -> Html:
    measured = [step for step in steps if step.get("guardrails")]
    if not measured:
        return tag("p", "No guardrail has been measured yet.", class_="quiet")
    # Of the step that decides now, or that decided: the guardrails of a step that was passed say nothing of the canary
    # today.
    step = next((s for s in measured if s["state"] in {"current", "rolled_back"}), measured[-1])
    rows = [_guardrail_row(guardrail) for guardrail in step.get("guardrails", [])]
    caption = f"Evidence of harm at {percent(step['weight_bp'] / 10_000)}"
    if "rows_canary" in step:
        arms = plural(step["rows_canary"], "row"), plural(step.get("rows_champion", 0), "row")
        caption += f": {arms[0]} of the canary against {arms[1]}"
    return table(caption, ("Guardrail", "Champion", "Canary", "log e / threshold", "Says"), rows)


def _guardrail_row(guardrail: GuardrailStatus) -> tuple[Html | str, ...]:
    # Either may be missing: a guardrail without a row of the canary has gathered nothing, and the dash says so.
    evidence, threshold = guardrail.get("evidence"), guardrail.get("threshold")
    meter: Html | str = "–"
    if evidence is not None and threshold:
        share = min(1.0, max(0.0, evidence / threshold))
        words = f"{number(evidence)} / {number(threshold)}"
        bar = tag("i", style=f"width:{share * 100:.0f}%", class_="over" if evidence >= threshold else None)
        meter = tag("span", tag("span", bar, class_="meter", aria_hidden="true"), words, class_="metered")
    return (
        guardrail["name"],
        number(guardrail.get("champion")),
        number(guardrail.get("canary")),
        meter,
        tag("span", guardrail["reason"], class_="reason"),
    )


def _audit(rollout: RolloutStatus) -> Html | None:
    deployments = rollout.get("deployments", [])
    if not deployments:
        return None
    rows = [
        (
            time_tag(d["time"]),
            d["action"].replace("_", " "),
            d.get("canary", d["champion"]),
            percent(d["weight_bp"] / 10_000) if "weight_bp" in d else "–",
            d["reason"],
        )
        for d in deployments
    ]
    return tag(
        "details",
        tag("summary", f"What was done to production ({len(rows)})"),
        table("Deployments, newest first", ("When", "What", "Version", "Weight", "Why"), rows),
    )
