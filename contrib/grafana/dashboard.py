"""Generates rollout.json, the Grafana dashboard of one rollout: `python contrib/grafana/dashboard.py`.

Panels query the metrics of the SDK, not recorded series, so the dashboard works without the rules. It is built with Grafana's
own types, of the oldest version that still gets fixes, which newer versions read.
"""

# ruff: noqa: INP001 - a script beside its output, not in a package
from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.builders import dashboard, prometheus, table, timeseries
from grafana_foundation_sdk.builders.common import StackingConfig, VizLegendOptions, VizTooltipOptions
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    DataTransformerConfig,
    DynamicConfigValue,
    VariableRefresh,
    VariableSort,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

FILE = Path(__file__).with_name("rollout.json")

_SOURCE = DataSourceRef("prometheus", "${datasource}")
_OF = 'job=~"$job",feature_flag_key="$rollout"'
_VARIANT = "feature_flag_result_variant"
_WINDOW = "$__rate_interval"


def _rate(metric: str, by: str, more: str = "") -> str:
    return f"sum by ({by}) (rate({metric}{{{_OF}{more}}}[{_WINDOW}]))"


_RUNS = _rate("rollout_call_duration_seconds_count", _VARIANT)
_FAILURES = _rate("rollout_call_duration_seconds_count", _VARIANT, ',error_type!=""')
_CONFIGURED = f'max by ({_VARIANT}) ({{__name__=~"rollout_variant_weight(_ratio)?",{_OF}}})'
# Decisions by the split alone: overrides, holdouts and the kill switch follow no share.
_SPLIT = _rate("rollout_decisions_total", _VARIANT, ',feature_flag_result_reason=~"split|static"')
_COMPARED = f"{_VARIANT},rollout_comparison_name"
_CHANGES = f'rollout_transitions_total{{{_OF},rollout_transition_action!="start"}}'
_CHANGE = "rollout_transition_action,rollout_transition_reason"
_LOSS = "job,instance,rollout_loss_reason"


def _query(expression: str, legend: str) -> prometheus.Dataquery:
    return prometheus.Dataquery().expr(expression).legend_format(legend).range().datasource(_SOURCE)


def _panel(title: str, description: str, unit: str, width: int, *queries: tuple[str, str]) -> timeseries.Panel:
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .unit(unit)
        .span(width)
        .height(8)
        .datasource(_SOURCE)
        .min(0)
        .fill_opacity(0)
        .show_points(VisibilityMode.NEVER)
        .legend(VizLegendOptions().show_legend(True).display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM))
        .tooltip(VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
    )
    for number, (expression, legend) in enumerate(queries):
        panel.with_target(_query(expression, legend).ref_id(chr(ord("A") + number)))
    return panel


def _stacked(panel: timeseries.Panel) -> timeseries.Panel:
    return panel.stacking(StackingConfig().mode(StackingMode.NORMAL)).fill_opacity(30)


def _calls() -> Iterator[timeseries.Panel]:
    yield (
        _panel(
            "Share of the calls",
            "Configured (dashed) and realised. After a change, they agree as soon as its calls fill the window.",
            "percentunit",
            12,
            (_CONFIGURED, f"{{{{{_VARIANT}}}}} configured"),
            (f"{_SPLIT} / on () group_left () sum({_SPLIT})", f"{{{{{_VARIANT}}}}} realised"),
        )
        .max(1)
        .override_by_regexp("/ configured$/", [DynamicConfigValue("custom.lineStyle", {"dash": [8, 8], "fill": "dash"})])
    )
    yield _panel(
        "Failed runs",
        "Share of each variant's runs that raised or timed out. None run while a circuit breaker is open: see Fallbacks.",
        "percentunit",
        12,
        (f"({_FAILURES} or 0 * {_RUNS}) / {_RUNS}", f"{{{{{_VARIANT}}}}}"),
    )
    for quantile in (50, 95, 99):
        buckets = _rate("rollout_call_duration_seconds_bucket", f"{_VARIANT},le")
        yield _panel(
            f"Latency p{quantile}",
            "Of one run of a variant, on the caller's path.",
            "s",
            8,
            (f"histogram_quantile({quantile / 100:g}, {buckets})", f"{{{{{_VARIANT}}}}}"),
        )
    yield _stacked(
        _panel(
            "Decisions by reason",
            "split: by the unit's point. static: everybody gets the same. targeting_match: override, holdout or rule. "
            "default: no unit. disabled: kill switch or abort. error: the strategy failed, and the control answered.",
            "reqps",
            12,
            (_rate("rollout_decisions_total", "feature_flag_result_reason"), "{{feature_flag_result_reason}}"),
        )
    )
    yield _stacked(
        _panel(
            "Fallbacks",
            "Calls that the control answered for a candidate, by reason. breaker_open: the candidate was not tried.",
            "reqps",
            12,
            (_rate("rollout_fallbacks_total", f"{_VARIANT},error_type"), f"{{{{{_VARIANT}}}}} {{{{error_type}}}}"),
        )
    )


def _shadows() -> Iterator[timeseries.Panel]:
    yield _panel(
        "Running shadows",
        "Waiting or running in the background, in all processes.",
        "short",
        12,
        (f"sum by ({_VARIANT}) (rollout_shadow_active{{{_OF}}})", f"{{{{{_VARIANT}}}}}"),
    )
    ran = _rate("rollout_shadow_runs_total", _VARIANT, ',rollout_shadow_end=~"ok|error"')
    raised = _rate("rollout_shadow_runs_total", _VARIANT, ',rollout_shadow_end="error"')
    yield _panel(
        "Failed shadows",
        "Share of the shadow runs that raised. None run while a circuit breaker is open: see open among the dropped ones. "
        "The control has the same calls, and its failures are in Failed runs.",
        "percentunit",
        12,
        (f"({raised} or 0 * {ran}) / {ran}", f"{{{{{_VARIANT}}}}}"),
    )
    dropped = _rate("rollout_shadow_dropped_total", f"{_VARIANT},rollout_drop_reason")
    yield _stacked(
        _panel(
            "Shadows dropped",
            "Shadows that did not finish, by reason. Callers are not affected, but fewer pairs are compared.",
            "reqps",
            12,
            (dropped, f"{{{{{_VARIANT}}}}} {{{{rollout_drop_reason}}}}"),
        )
    )
    matching = _rate("rollout_comparisons_total", _COMPARED, ',rollout_comparison_match=~"(?i)true"')
    all_of_them = _rate("rollout_comparisons_total", _COMPARED)
    yield _panel(
        "Shadows that match the control",
        "Share of the compared outputs that agree.",
        "percentunit",
        12,
        (f"({matching} or 0 * {all_of_them}) / {all_of_them}", f"{{{{{_VARIANT}}}}} {{{{rollout_comparison_name}}}}"),
    ).max(1)


def _transitions() -> table.Panel:
    # Every process counts every change, from any source; a start is its own.
    starts = f'sum by ({_CHANGE}) (rollout_transitions_total{{{_OF},rollout_transition_action="start"}})'
    query = prometheus.Dataquery().expr(f"max by ({_CHANGE}) ({_CHANGES}) or {starts}")
    return (
        table.Panel()
        .title("Transitions")
        .description("Counted since the start of each running process. Every graph marks the times.")
        .span(12)
        .height(8)
        .datasource(_SOURCE)
        .with_target(query.instant().format(PromQueryFormat.TABLE).ref_id("A").datasource(_SOURCE))
        .with_transformation(
            DataTransformerConfig(
                id_val="organize",
                options={
                    "excludeByName": {"Time": True},
                    "indexByName": {},
                    "renameByName": {
                        "rollout_transition_action": "Action",
                        "rollout_transition_reason": "Reason",
                        "Value": "Number",
                    },
                },
            )
        )
    )


def _lost() -> timeseries.Panel:
    return _panel(
        "Facts lost",
        "Missing from the journal, for all rollouts of these jobs. queue_full: missing from every count, too. "
        "journal_unwritable: counted, but the journal could not be written.",
        "short",
        12,
        (
            f'sum by ({_LOSS}) (increase(rollout_facts_lost_total{{job=~"$job"}}[{_WINDOW}]))',
            "{{job}} {{instance}} {{rollout_loss_reason}}",
        ),
    )


def _variables() -> Iterator[Any]:
    yield dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")
    for name, label, series, of in (
        ("job", "Job", "rollout_decisions_total", "job"),
        ("rollout", "Rollout", 'rollout_decisions_total{job=~"$job"}', "feature_flag_key"),
    ):
        variable = (
            dashboard.QueryVariable(name)
            .label(label)
            .datasource(_SOURCE)
            .query(f"label_values({series}, {of})")
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
            .sort(VariableSort.ALPHABETICAL_ASC)
        )
        yield variable.multi(True).include_all(True).all_value(".*") if name == "job" else variable


def make() -> dict[str, Any]:
    """Return the dashboard as Grafana's JSON."""
    made = (
        dashboard.Dashboard("Rollout")
        .uid("rollout-sdk")
        .description("One rollout: shares, errors, latency, shadows and transitions of every variant.")
        .tags(["rollout"])
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .time("now-6h", "now")
        .refresh("1m")
    )
    for variable in _variables():
        made.with_variable(variable)
    made.annotation(
        dashboard.AnnotationQuery()
        .name("Transitions")
        .datasource(_SOURCE)
        .enable(True)
        .icon_color("purple")
        # Changes that a counter went through, and those that it was born with.
        .expr(f"max by ({_CHANGE}) ((increase({_CHANGES}[2m]) > 0) or ({_CHANGES} unless {_CHANGES} offset 2m))")
    )
    for title, panels in (("Calls", [*_calls()]), ("Shadows", [*_shadows()]), ("Record", [_transitions(), _lost()])):
        made.with_row(dashboard.Row(title))
        for panel in panels:
            made.with_panel(panel)
    model = json.loads(json.dumps(made.build(), cls=JSONEncoder))
    for number, panel in enumerate(model["panels"], 1):
        panel["id"] = number
    for variable in model["templating"]["list"]:
        # Of variables that are intervals.
        for name in ("auto", "auto_count", "auto_min"):
            del variable[name]
    for annotation in model["annotations"]["list"]:
        # What the data source for Prometheus reads, and Grafana's types do not know.
        annotation |= {
            "step": "60s",
            "titleFormat": "{{rollout_transition_action}}",
            "textFormat": "{{rollout_transition_reason}}",
        }
    return model


def text() -> str:
    """The dashboard as it is in the file."""
    return json.dumps(make(), indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
