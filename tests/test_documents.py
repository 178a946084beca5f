"""Every code block of the README and of the guides runs, and prints what the page says that it prints."""

import contextlib
import inspect
import io
import random
import re
import subprocess
import sys
import tomllib
import warnings
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import get_args

import pytest
from attrs import fields
from click.testing import CliRunner

from rollout_sdk import Canary, Gate, Guardrail, Step, testing
from rollout_sdk.cli import main
from rollout_sdk.cli.output import EXIT_CODES
from rollout_sdk.control.roles import ACTIONS
from rollout_sdk.control.stored import Until
from rollout_sdk.judging import Evidence, Situation, judge
from rollout_sdk.judging.metrics import METRICS
from rollout_sdk.plan import MEASURED, Criteria
from rollout_sdk.plugins import hookspecs

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([ROOT / "README.md", *ROOT.glob("plugins/**/README.md"), *ROOT.glob("docs/*.md")])
RECIPES = ROOT / "docs/recipes.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PRINTED = re.compile(r"\nIt prints(, with other times)?:\n\n```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def skip_without_its_dependencies(document):
    """A plugin's page runs where what the plugin depends on is installed: all by `make test-plugins` or `test-engines`."""
    project = document.with_name("pyproject.toml")
    if document.parent.parent == ROOT / "plugins" and project.exists():
        about = tomllib.loads(project.read_text())["project"]
        for requirement in about["dependencies"]:
            name = re.match(r"[\w.-]+", requirement)[0]
            try:
                distribution(name)
            except PackageNotFoundError:
                pytest.skip(f"{about['name']} needs {name}, which is not installed: make test-plugins, test-engines")


def blocks(document, language):
    text = document.read_text()
    return [(text[: match.start()].count("\n") + 1, match[2]) for match in BLOCK.finditer(text) if match[1] == language]


def commands():
    """The commands that stand alone: those whose output is shown need what the page has done before, and run there."""
    for document in DOCUMENTS:
        text = document.read_text()
        for block in BLOCK.finditer(text):
            if block[1] == "console" and not PRINTED.match(text, block.end() + 1):
                yield from ((document, line) for line in block[2].splitlines())


# Each recipe is run alone, by tests/test_recipes.py.
@pytest.mark.parametrize(
    "document", [each for each in DOCUMENTS if each != RECIPES], ids=lambda path: str(path.relative_to(ROOT))
)
def test_the_python_of_a_document_runs_from_top_to_bottom(document, tmp_path, monkeypatch):
    skip_without_its_dependencies(document)
    monkeypatch.chdir(tmp_path)
    # Pages may use one key for different rollouts: each page is a process of its own.
    monkeypatch.setattr("rollout_sdk.runtime.registry._default", None)
    if document.parent.parent == ROOT / "plugins":
        # What the library of a plugin uses of others is its own affair.
        warnings.simplefilter("ignore", DeprecationWarning)
    namespace = {"__name__": f"document_{document.parent.name}"}
    text, checked = document.read_text(), 0
    for block in BLOCK.finditer(text):
        said, printed = PRINTED.match(text, block.end() + 1), ""
        if block[1] == "python":
            with contextlib.redirect_stdout(io.StringIO()) as stream:
                exec(compile("\n" * (text[: block.start()].count("\n") + 1) + block[2], str(document), "exec"), namespace)
            printed = stream.getvalue()
        elif block[1] == "console" and said:
            printed = CliRunner().invoke(main, block[2].split()[1:], catch_exceptions=False).output
        if said:
            check_printed(said[2], printed, exact=said[1] is None)
            checked += 1
    assert checked == text.count("\nIt prints")


def check_printed(said, printed, *, exact):
    """A page shows all of what is printed, or parts with "..." between; where times differ, all numbers may."""
    shape = (lambda text: text) if exact else shape_of
    at = 0
    for part in re.split(r"^\.\.\.\n", said, flags=re.MULTILINE):
        found = shape(printed).find(shape(part), at)
        assert found >= 0, f"It does not print:\n{part}\nIt prints:\n{printed}"
        at = found + len(shape(part))


def test_the_plugins_of_the_authors_guide_pass_their_contracts(tmp_path):
    """As its author would run them: in a file of their own, with pytest and nothing of this project's configuration."""
    guide = ROOT / "plugins/README.md"
    (tmp_path / "test_guide.py").write_text("\n".join(code for _, code in blocks(guide, "python")))
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-W",
        "error",
        f"--rootdir={tmp_path}",
        str(tmp_path),
    ]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, cwd=tmp_path)
    passed = re.search(r"(\d+) passed in", ran.stdout)
    assert passed, ran.stdout
    assert int(passed[1]) == sum(
        name.startswith("test_") for contract in CONTRACTS_OF_THE_GUIDE for name in dir(getattr(testing, contract))
    )


CONTRACTS_OF_THE_GUIDE = re.findall(r"^class Test\w+\((\w+)\):", (ROOT / "plugins/README.md").read_text(), re.MULTILINE)


def test_the_authors_guide_has_every_hook_with_its_arguments():
    rows = re.findall(r"^\| `(rollout_\w+)` \| (.*?) \|", (ROOT / "plugins/README.md").read_text(), re.MULTILINE)
    documented = {hook: re.findall(r"`(\w+): ", arguments) for hook, arguments in rows}
    hooks = {name: value for name, value in vars(hookspecs).items() if name.startswith("rollout_")}
    assert {name: list(inspect.signature(hook).parameters) for name, hook in hooks.items()} == documented


def shape_of(text):
    """What stays of a table when its numbers are others, and with them the widths of its columns."""
    return re.sub(r"\s+", " ", re.sub(r"-{3,}|\d[\d,.]*(e-?\d+)?", "0", text))


def test_output_that_a_page_only_seems_to_show_is_noticed():
    check_printed("a 1\n...\nc\n", "a 1\nb\nc\n", exact=True)
    check_printed("p99 1.5 ms ---\n", "p99  12,345 ms\n-----\n", exact=False)
    for said, exact in (("a 2\n", True), ("c\n...\na 1\n", True), ("p98 a ms\n", False)):
        with pytest.raises(AssertionError, match="does not print"):
            check_printed(said, "a 1\nb\nc\n", exact=exact)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_toml_of_a_document_can_be_read(document):
    for _, text in blocks(document, "toml"):
        tomllib.loads(text)


def test_the_readme_is_short_and_has_no_microseconds():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 150
    assert re.search(r"\bus\b|microsecond", text) is None


@pytest.mark.parametrize(
    ("document", "command"), list(commands()), ids=lambda value: value if isinstance(value, str) else value.name
)
def test_the_commands_of_a_document_exist(document, command, tmp_path):
    program, *words = command.replace("'", "").split()
    if program == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert set(words) <= set(targets)
    elif program == "rollout" and words[0] == "dashboard":
        # It would serve until it is stopped: tests/browser does that.
        dashboard = main.get_command(None, "dashboard")
        dashboard.make_context("dashboard", [str(tmp_path) if word == "DIR" else word for word in words[1:]])
    elif program == "rollout":
        result = CliRunner().invoke(main, [str(tmp_path) if word == "DIR" else word for word in words], catch_exceptions=False)
        # 5: the journal of this test is empty.
        assert result.exit_code in (0, 5)
    elif program == "pip":
        assert words[0] == "install"
        for package in words[1:]:  # nothing is published yet: packages come from the checkout
            folder, _, extra = package.partition("[")
            assert folder.startswith("."), f"{package} cannot be installed by this name"
            project = tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"]
            assert extra == "" or extra.removesuffix("]") in project["optional-dependencies"]
    else:
        pytest.fail(f"{document.name} has a command that no test knows: {command}")


# What docs/canary.md and docs/adding-a-metric.md say of the judge


@pytest.mark.parametrize("kind", [Guardrail, Gate, Step, Canary])
def test_the_guide_to_canaries_has_every_option(kind):
    table_cells = re.findall(r"^\| (`[^|]*) \|", (ROOT / "docs/canary.md").read_text(), re.MULTILINE)
    documented = {name for cell in table_cells for name in re.findall(r"`(\w+)`", cell)}
    options = {each.name for each in fields(kind) if each.init and each.name != "metric"}
    assert options <= documented


def test_the_guide_to_canaries_has_every_metric_that_the_sdk_measures():
    cells = set(re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/canary.md").read_text(), re.MULTILINE))
    assert cells >= set(MEASURED)


class Calls:
    """Calls that are judged by an error rate guardrail, at a share of the candidate."""

    def __init__(self, share, *guardrails):
        self.shares, self.rng = {"control": 1 - share, "v2": share}, random.Random(3)
        self.plan = Criteria(steps=["50%"], guardrails=guardrails or [Guardrail("error_rate")])
        self.evidence = Evidence(self.plan.all)

    def call(self, arm, *, minute, failed=False, first_item_s=None):
        self.evidence.add_call(
            "0:x", arm, self.shares, self.rng.getrandbits(32), self.rng.randrange(512), failed=failed, duration_s=1.0,
            time_s=60.0 * minute, first_item_s=first_item_s,
        )  # fmt: skip

    def verdict(self):
        situation = Situation(
            rollout="model", phase="0:x", revision=0, control="control", candidates=("v2",),
            step=Step("50%", min_units=0, min_time=0), entered_s=0.0,
        )  # fmt: skip
        return judge(self.evidence, self.plan, situation, 1e6)


@pytest.mark.parametrize(("share", "minutes"), [(0.01, 2), (0.05, 3)])
def test_below_a_tenth_a_total_failure_takes_errors_in_as_many_minutes_as_the_guide_says(share, minutes):
    calls, outcomes = Calls(share), []
    calls.call("control", minute=1)
    for minute in range(1, minutes + 1):
        for _ in range(50):
            calls.call("v2", minute=minute, failed=True)
        outcomes.append(calls.verdict().outcome)
    assert outcomes.index("FAIL") == minutes - 1


def test_five_hundred_units_without_an_error_pass_and_fewer_do_not():
    calls = Calls(0.5)
    for _ in range(490):
        for arm in calls.shares:
            calls.call(arm, minute=1)
    few = calls.verdict().outcome
    for _ in range(10):
        for arm in calls.shares:
            calls.call(arm, minute=1)
    assert (few, calls.verdict().outcome) == ("INCONCLUSIVE", "PASS")


def test_the_metric_of_the_guide_is_judged_once_it_is_registered_as_the_guide_says(monkeypatch):
    guide, namespace = ROOT / "docs/adding-a-metric.md", {"__name__": "stalls"}
    exec(compile(blocks(guide, "python")[0][1], str(guide), "exec"), namespace)
    monkeypatch.setitem(MEASURED, "stalls", 0.02)
    calls = Calls(0.5, Guardrail("stalls"))
    for number in range(2000):
        for arm in calls.shares:
            calls.call(arm, minute=1, first_item_s=0.9 if number % (10 if arm == "control" else 4) == 1 else 0.1)
    (finding,) = [each for each in calls.verdict().findings if each.name == "stalls"]
    assert finding.outcome == "FAIL"
    assert "25 % of its streams stall, 10 % of the control's" in finding.reason
    del METRICS["stalls"]


# What docs/operating.md says of the command


def test_the_guide_to_operating_has_every_command_and_every_exit_code():
    guide = (ROOT / "docs/operating.md").read_text()
    missing = [name for name in main.list_commands(None) if not re.search(rf"`rollout {name}\b", guide)]
    assert missing == ["simulate"]
    rows = re.findall(r"^\| (\d) \| ", guide, re.MULTILINE)
    assert rows == re.findall(r"^  (\d)  ", EXIT_CODES, re.MULTILINE) == [str(code) for code in range(9)]


def test_the_guide_to_operating_has_every_action_of_roles_and_every_status_that_can_be_waited_for():
    guide = (ROOT / "docs/operating.md").read_text()
    assert [action for action in ACTIONS if f"`{action}`" not in guide] == []
    assert [status for status in get_args(Until) if f"`{status.replace('_', '-')}`" not in guide] == []
