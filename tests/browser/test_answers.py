"""People compare answers in a real browser: blind, on a phone as well, one click for each pair."""

import pytest

from rollout_sdk import Guardrail, Runtime, Shadow, ShadowLimits, rollout
from rollout_sdk.comparators import Disagreements
from rollout_sdk.journal import read_journal
from tests.waiting import until

from .conftest import TOKEN, axe, dashboard

pytestmark = pytest.mark.browser

HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>"


@pytest.fixture
def journal(tmp_path):
    """The journal and the store of a shadow whose answers differ, and hold markup."""
    folder, store = tmp_path / "journal", f"sqlite:///{tmp_path}/rollouts.db"
    limits = ShadowLimits(max_jobs=10_000, cpu_share=1.0, max_age_s=60.0, timeout_s=60.0)
    runtime = Runtime(journal=folder, store=store, shadows=limits)

    @rollout(
        candidate=lambda text: f"{HOSTILE} {text}", keep=Disagreements(50, redact=None), key="chat", effects="read",
        strategy=Shadow(1.0, guardrails=[Guardrail("judge.preference", margin=0.05, audit=1.0)]), runtime=runtime,
    )  # fmt: skip
    def chat(text):
        return f"A long answer to the question {text}, " * 20

    for number in range(5):
        chat(f"number {number}")
    assert runtime.flush(20.0)
    runtime.close()
    return folder, store


def labels(folder):
    return [line["value"] for line in read_journal(folder) if line["event"] == "outcome" and line.get("source") == "human"]


def broken_rules(page):
    """The rules of accessibility that a page breaks; none where axe-core is not installed."""
    if (source := axe()) is None:
        return []
    page.evaluate(source)
    found = page.evaluate("axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa', 'best-practice']})")
    return [(each["id"], [node["html"][:120] for node in each["nodes"][:3]]) for each in found["violations"]]


@pytest.mark.parametrize("size", [(1280, 800), (390, 844)], ids=["desktop", "phone"])
def test_each_pair_is_labelled_with_a_click(window, journal, size):
    folder, store = journal
    with dashboard(folder, "--store", store, "--operate") as (address, _):
        page = window(*size, bypass_csp=axe() is not None)
        page.goto(f"{address}login")
        page.get_by_label("You").fill("ann")
        page.get_by_label("Token").fill(TOKEN)
        page.get_by_role("button", name="Log in").click()
        page.get_by_role("link", name="chat").first.click(timeout=60_000)
        page.get_by_text("Answers that differ").wait_for(timeout=30_000)
        page.locator("summary", has_text="1. value").click()
        assert broken_rules(page) == []
        page.get_by_role("link", name="Say which answer is better").click()
        for left in range(5, 0, -1):
            page.get_by_text(f"{left} pair").wait_for(timeout=30_000)
            assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
            if left == 5:
                assert broken_rules(page) == []
            page.get_by_role("button", name="a is better").click()
        page.get_by_text("No pair waits for people.").wait_for(timeout=30_000)
    until(lambda: len(labels(folder)) == 5)
    assert set(labels(folder)) <= {1.0, -1.0}
