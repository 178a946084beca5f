"""A forecast in words, for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from textwrap import wrap

from rollout_sdk.analysis.forecast import Forecast, StepForecast, Times
from rollout_sdk.analysis.measured import Measured
from rollout_sdk.formatting import plain
from rollout_sdk.plan import Criteria, Gate, as_duration

__all__ = ["as_forecast"]

_WIDTH = 80
_DAY_S = 86_400
_NAME = 30


def as_forecast(found: Forecast, criteria: Criteria, measured: Measured | None) -> str:
    """The forecast as lines of text."""
    lines = list(_traffic(found, criteria, measured))
    lines += [
        "",
        *_wrapped(
            "If the candidate is as good as the control (at a gate: better by its mde), a step "
            "has passed in 1 of 2 cases, and in 4 of 5, after",
            0,
        ),
    ]
    lines += ["", *_table(found)]
    for step in found.steps:
        lines += ["", *_step(step)]
    for warning in found.warnings:
        lines += ["", *_wrapped(f"Warning: {warning}", 0)]
    notes = ["Each step is looked at by itself: what it has seen before makes the real canary faster."]
    if any(isinstance(gate, Gate) and gate.min_effect >= 0 for gate in criteria.gates):
        notes.append("A candidate that is only as good as the control passes no gate that asks for better.")
    return "\n".join([*lines, "", *(line for note in notes for line in _wrapped(note, 0))])


def _wrapped(text: str, indent: int) -> list[str]:
    return wrap(
        text, _WIDTH, initial_indent=" " * indent, subsequent_indent=" " * (indent + 2 * bool(indent)), break_on_hyphens=False
    )  # fmt: skip


def _days(days: float | None) -> str:
    return "never" if days is None else as_duration(days * _DAY_S)


def _traffic(found: Forecast, criteria: Criteria, measured: Measured | None) -> Iterator[str]:
    traffic = found.traffic
    if measured is not None:
        yield from _wrapped(f"Traffic from the journal, {plain(str(measured), 200)}.", 0)
        if measured.days < 1:
            yield from _wrapped(
                f"That is less than a day ({_days(measured.days)}): other hours may be different, and units that come again "
                "later are counted as new ones.",
                0,
            )
    slow = {
        each.label: traffic.slow_rates.get(each.label, traffic.slow_rate) for each in criteria.guardrails if each.threshold_s
    }
    parts = [
        f"{traffic.units_per_day:,.0f} units a day",
        f"{_calls(traffic.calls_per_unit)}",
        f"{traffic.error_rate:.2%} of the units see an error",
        *(f"{rate:.2%} of the calls: {label}" for label, rate in slow.items()),
        *(f"{plain(name, _NAME)} {mean:.4g} (SD {deviation:.3g})" for name, (mean, deviation) in traffic.means.items()),
    ]
    yield from _wrapped(f"Traffic: {'; '.join(parts)}.", 0)


def _calls(number: float) -> str:
    return "1 call each" if number == 1 else f"{number:.3g} calls each"


def _table(found: Forecast) -> Iterator[str]:
    rows = [("step", "1 in 2", "4 in 5", "waits longest for")]
    for step in found.steps:
        name = f"shadow {step.shadow * 100:.3g}%" if step.shadow else step.step
        rows.append((name, _days(step.days_50), _days(step.days_80), str(step.bottleneck)))
    rows.append(("in all", _days(found.days_50), _days(found.days_80), ""))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        yield ("  " + "  ".join([*cells, row[3]])).rstrip()[:_WIDTH]


def _step(step: StepForecast) -> Iterator[str]:
    name = "the shadow step" if step.shadow else step.step
    title = f"{name} {step.pause}." if step.pause else f"{name}: to be faster, {step.bottleneck.cure}."
    yield from _wrapped(title, 2)
    yield from _wrapped(f"waits for: {_listed(step.by)}", 4)
    seen = [f"{ratio:g}x after {_count(number)}" for ratio, number in step.errors_seen.items()]
    if seen:
        yield from _wrapped(
            f"a candidate with more errors is rolled back once its units with an error are about: {', '.join(seen)}", 4
        )
    for gate, effect in step.effects_seen.items():
        yield from _wrapped(f"{plain(gate, _NAME)}: sees a difference of {effect:.3g}", 4)
    for gate, times in step.futile.items():
        end = step.planned_ends.get(gate)
        if end is not None:
            text = f"planned end after {_days(end)}: without a pass by then, a person decides"
        else:
            text = f"a candidate without any effect is found futile after {_days(times.days_50)} ({_days(times.days_80)})"
        yield from _wrapped(f"{plain(gate, _NAME)}: {text}", 4)


def _listed(by: Mapping[str, Times]) -> str:
    parts = []
    for name, times in by.items():
        later = "" if times.days_50 == times.days_80 else f" ({_days(times.days_80)})"
        parts.append(f"{plain(name, _NAME)} {_days(times.days_50)}{later}")
    return ", ".join(parts)


def _count(number: float | None) -> str:
    return "never" if number is None else f"{number:.0f}"
