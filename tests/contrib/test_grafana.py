"""The dashboard: it is what its generator makes, Grafana's own types accept it, and its queries ask for what is emitted."""

import copy
import importlib.util
import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.contrib.conftest import CONTRIB, tool
from tests.contrib.expressions import unknown

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")

FOLDER = CONTRIB / "grafana"
DASHBOARD = json.loads((FOLDER / "rollout.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
VARIABLES = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
EXPRESSIONS = [
    *((panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]),
    *((annotation["name"], annotation["expr"]) for annotation in DASHBOARD["annotations"]["list"]),
]


@pytest.fixture(scope="module")
def generator():
    """The module that makes the dashboard."""
    pytest.importorskip("grafana_foundation_sdk", reason="grafana-foundation-sdk is not installed")
    spec = importlib.util.spec_from_file_location("dashboard", FOLDER / "dashboard.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def complaints(tmp_path_factory):
    """What the types of @grafana/schema complain of: in the dashboard, and then in each that is wrong.

    All are checked at once, because the compiler reads the types anew each time.
    """
    modules = os.environ.get("ROLLOUT_GRAFANA_SCHEMA")
    if not modules:
        pytest.skip("ROLLOUT_GRAFANA_SCHEMA names no folder with @grafana/schema and typescript: see contrib/README.md")
    node = tool("ROLLOUT_NODE", "node")

    dashboards = [DASHBOARD, *(copy.deepcopy(DASHBOARD) for _ in WRONG)]
    for model, change in zip(dashboards[1:], WRONG.values(), strict=True):
        change(model)
    folder = tmp_path_factory.mktemp("grafana")
    (folder / "node_modules").symlink_to(Path(modules).resolve() / "node_modules")
    (folder / "grafana.ts").write_text(Path(__file__).with_name("grafana.ts").read_text())
    for number, dashboard in enumerate(dashboards):
        (folder / f"{number}.ts").write_text("\n".join(_as_program(dashboard)))
    options = ["--noEmit", "--strict", "--skipLibCheck", "--target", "es2022", "--module", "esnext"]
    options += ["--moduleResolution", "bundler"]
    command = [node, "node_modules/typescript/bin/tsc", *options, *folder.glob("[0-9]*.ts")]
    told = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100, check=False).stdout
    assert not re.search(r"^(grafana|node_modules).*error", told, re.MULTILINE), told
    return ["\n".join(re.findall(rf"^{number}\.ts.*(?:\n  .*)*", told, re.MULTILINE)) for number in range(len(dashboards))]


def test_the_file_is_what_the_generator_makes(generator):
    assert generator.text() == (FOLDER / "rollout.json").read_text()


def test_the_types_of_grafana_accept_the_dashboard(complaints):
    assert complaints[0] == ""


WRONG = {
    "'\"tittle\"' does not exist": lambda model: model["panels"][1].update(tittle="Shares"),
    "'string' is not assignable to type 'number'": lambda model: model.update(schemaVersion="41"),
    "'\"data source\"' is not assignable": lambda model: model["templating"]["list"][0].update(type="data source"),
    "'\"some\"' is not assignable": lambda model: model["panels"][1]["options"]["tooltip"].update(mode="some"),
    "'\"fill\"' does not exist": lambda model: model["panels"][1]["fieldConfig"]["defaults"]["custom"].update(fill=3),
    "'iconColor' is missing": lambda model: model["annotations"]["list"][0].pop("iconColor"),
}


def test_the_types_of_grafana_refuse_a_dashboard_that_is_wrong(complaints):
    assert [complaint for complaint, text in zip(WRONG, complaints[1:], strict=True) if complaint not in text] == []


def test_nothing_is_lost_when_grafana_s_library_reads_the_dashboard(generator):
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins
    from grafana_foundation_sdk.models.dashboard import Dashboard

    register_default_plugins()
    model = copy.deepcopy(DASHBOARD)
    for annotation in model["annotations"]["list"]:
        for field in ("step", "titleFormat", "textFormat"):
            del annotation[field]
    assert [*_lost(model, json.loads(json.dumps(Dashboard.from_json(model), cls=JSONEncoder)))] == []


def test_prometheus_parses_every_expression(promtool, tmp_path):
    rules = [{"record": f"panel:{n}", "expr": _with_values(expression)} for n, (_, expression) in enumerate(EXPRESSIONS)]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    checked = promtool("check", "rules", "rules.yml", cwd=tmp_path)
    assert (checked.returncode, f"{len(EXPRESSIONS)} rules found" in checked.stdout, checked.stderr) == (0, True, "")


def test_an_expression_that_does_not_parse_is_noticed(promtool, tmp_path):
    rules = [{"record": "parsed", "expr": _with_values(EXPRESSIONS[0][1]) + ")"}]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "expression", "rules": rules}]}))
    assert promtool("check", "rules", "rules.yml", cwd=tmp_path).returncode != 0


@pytest.mark.parametrize(("title", "expression"), EXPRESSIONS)
def test_a_run_emits_what_a_panel_asks_for(emitted, title, expression):
    assert unknown(expression, emitted) == set()


@pytest.mark.parametrize("name", ["job", "rollout"])
def test_a_run_emits_what_a_variable_lists(emitted, name):
    assert unknown(VARIABLES[name]["query"], emitted) == set()


def test_a_legend_names_only_labels_that_its_expression_keeps():
    for panel in PANELS:
        for target in panel["targets"]:
            kept = {label for by in re.findall(r"by \(([^)]*)\)", target["expr"]) for label in by.split(",")}
            assert set(re.findall(r"{{(\w+)}}", target.get("legendFormat", ""))) - {label.strip() for label in kept} == set()


def test_every_panel_asks_the_data_source_that_the_reader_chose():
    asked = {target["datasource"]["uid"] for panel in PANELS for target in (panel, *panel["targets"])}
    assert (asked, [*VARIABLES]) == ({"${datasource}"}, ["datasource", "job", "rollout"])


def _as_program(dashboard):
    """Lines of TypeScript that hold a dashboard, and what its panels hold, against their types."""
    yield "import type { Checked, Of } from './grafana';"
    yield f"export const dashboard: Checked = {json.dumps(dashboard)};"
    for panel in dashboard["panels"]:
        if panel["type"] != "row":
            custom = panel.get("fieldConfig", {}).get("defaults", {}).get("custom", {})
            for part, value in (("options", panel.get("options", {})), ("custom", custom)):
                yield f"export const {part}{panel['id']}: Of[{panel['type']!r}]['{part}'] = {json.dumps(value)};"


def _lost(model, read, path=""):
    """Where what was read has not all that the model has."""
    if isinstance(model, dict) and isinstance(read, dict):
        for name, value in model.items():
            yield from _lost(value, read.get(name), f"{path}.{name}")
    elif isinstance(model, list) and isinstance(read, list) and len(model) == len(read):
        for number, value in enumerate(model):
            yield from _lost(value, read[number], f"{path}[{number}]")
    elif model != read:
        yield path


def _with_values(expression):
    """The expression as Grafana sends it."""
    for name, value in (("$__rate_interval", "5m"), ("$job", ".*"), ("$rollout", "shop.rank")):
        expression = expression.replace(name, value)
    return expression
