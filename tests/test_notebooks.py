"""What values show in a notebook, and in one that runs for real."""

import re
from xml.etree import ElementTree

import pytest

from rollout_sdk import ABTest, Gate, Runtime, rollout
from rollout_sdk.analysis import summarise
from rollout_sdk.control.stored import StoredRollout
from rollout_sdk.page.notebook import html

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def served(tmp_path):
    """A controller whose journal and store have 400 calls of a rollout with a hostile name."""
    runtime = Runtime(journal=tmp_path / "journal", store=f"sqlite:///{tmp_path}/rollouts.db", key=b"k" * 16)
    strategy = ABTest(0.5, gates=[Gate("click", mde=0.1)])
    model = rollout(candidate=lambda unit: 1, strategy=strategy, unit="unit", key=HOSTILE, runtime=runtime)(lambda unit: 0)
    for number in range(400):
        decision = model.rollout.route(f"u{number}").decision
        model.rollout.record("click", float(number % 3 == 0), decision_id=decision.id)
    runtime.flush()
    yield model.rollout, tmp_path
    runtime.close()


def test_every_value_is_shown_and_its_names_are_text(served):
    controller, folder = served
    report = summarise(folder / "journal")
    with StoredRollout(f"sqlite:///{folder}/rollouts.db", HOSTILE) as stored:
        values = [report, report.rollouts[0].verdict, controller, controller.status(), controller.judge(), stored.status()]
    for value in values:
        shown = value._repr_html_()
        # In HTML, a style is no markup.
        style = re.search("<style>(.*?)</style>", shown, re.DOTALL)
        root = ElementTree.fromstring(shown.replace(style[0], ""))
        assert not [node for node in root.iter() if node.tag == "script"]
        assert HOSTILE in "".join(root.itertext())
        # Nothing outside of the block is touched.
        assert style[1].startswith(".rollout-sdk{")
        assert value._repr_markdown_().startswith("```text\n")
        assert value._repr_markdown_().count("```") == 2


def test_other_values_are_not_shown():
    assert html("text") is None


def test_a_report_is_a_frame(served):
    pytest.importorskip("pandas", reason="needs pandas")
    _, folder = served
    report = summarise(folder / "journal")
    frame = report.to_frame()
    assert list(frame["metric"]) == [each.metric for each in report.rollouts[0].verdict.differences]
    click = frame[frame["metric"] == "click"].iloc[0]
    found = report.rollouts[0].verdict.differences[0]
    assert (click["rollout"], click["estimate"], click["value_count"]) == (HOSTILE, found.estimate, found.value_count)


def test_a_real_notebook_shows_a_report_and_a_status(served):
    nbclient = pytest.importorskip("nbclient", reason="needs nbclient and ipykernel")
    pytest.importorskip("ipykernel", reason="needs nbclient and ipykernel")
    from nbformat.v4 import new_code_cell, new_notebook

    _, folder = served
    cells = [
        f"from rollout_sdk.analysis import summarise\nsummarise({str(folder / 'journal')!r})",
        f"from rollout_sdk import operate\noperate({f'sqlite:///{folder}/rollouts.db'!r}, {HOSTILE!r}).status()",
    ]
    notebook = new_notebook(cells=[new_code_cell(cell) for cell in cells])
    nbclient.NotebookClient(notebook, timeout=100, kernel_name="python3").execute()
    for cell in notebook.cells:
        (shown,) = [output for output in cell.outputs if output.output_type == "execute_result"]
        assert "rollout-sdk" in shown["data"]["text/html"]
        assert HOSTILE not in shown["data"]["text/html"]
