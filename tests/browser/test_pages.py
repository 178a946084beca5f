"""Pages in a real browser: what is seen without scrolling, on a phone, in the dark and on paper; and hostile names."""

import random
import re

import pytest

from rollout_sdk import ABTest, Canary, Gate, Guardrail, Runtime, rollout
from rollout_sdk.analysis import summarise
from rollout_sdk.page import as_html

from .conftest import axe, dashboard

pytestmark = pytest.mark.browser

HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>\"'><svg onload=alert(3)>"
SIZES = {"desktop": (1280, 800), "phone": (390, 844)}


def written(folder, key="shop.rank", reason="looks good", units=3_000):
    """A journal with a canary that was promoted by hand, and an A/B test whose gate passes."""
    runtime = Runtime(journal=folder, key=b"k" * 16)
    draw = random.Random(1)

    def answer(unit):
        return "answer"

    tests = {
        key: Canary(["5%", "50%"], guardrails=[Guardrail("error_rate")]),
        f"{key} B": ABTest(0.5, gates=[Gate("purchase", mde=0.05)], guardrails=[Guardrail("latency", threshold_s=0.5)]),
    }
    for name, strategy in tests.items():
        model = rollout(candidate=answer, strategy=strategy, unit="unit", key=name, version="2026-11", runtime=runtime)(answer)
        for number in range(units):
            if number == units // 2 and isinstance(strategy, Canary):
                model.rollout.promote(actor=reason, reason=reason)
            decision = model.rollout.route(f"u{number}").decision
            chance = 0.2 if decision.variant == "control" else 0.35
            model.rollout.record("purchase", float(draw.random() < chance), decision_id=decision.id)
    runtime.close()
    return folder


@pytest.fixture(scope="module")
def journal(tmp_path_factory):
    return written(tmp_path_factory.mktemp("journal"))


@pytest.fixture(scope="module")
def page_file(journal, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(as_html(summarise(journal)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def long_names(tmp_path_factory):
    """A page with names as long as they come, and with segments."""
    folder = tmp_path_factory.mktemp("long")
    runtime, draw = Runtime(journal=folder, key=b"k" * 16), random.Random(1)
    strategy = ABTest(0.5, gates=[Gate("purchase_within_a_week", mde=0.05)], segments={"country": ["Netherlands", "Germany"]})
    model = rollout(
        candidate=lambda unit, country: "v2",
        strategy=strategy,
        unit="unit",
        key="shop.search_results_ranking_experiment_of_november",
        runtime=runtime,
    )(lambda unit, country: "v1")
    for number in range(1_000):
        decision = model.rollout.route(f"u{number}", draw.choice(["Netherlands", "Germany", "France"])).decision
        model.rollout.record("purchase_within_a_week", float(draw.random() < 0.2), decision_id=decision.id)
    runtime.close()
    return folder


def overflow(page):
    return page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
class TestTheReport:
    def test_says_what_to_do_without_scrolling(self, window, page_file, size, scheme):
        page = window(*SIZES[size], color_scheme=scheme)
        page.goto(page_file.as_uri())
        top = page.locator("ul.cards > li").first
        for part in (".verdict", "p"):
            box = top.locator(part).first.bounding_box()
            assert box["y"] + box["height"] <= SIZES[size][1]
        assert "SHIP" in top.inner_text()
        assert overflow(page) <= 0

    def test_passes_the_rules_of_accessibility(self, window, page_file, size, scheme):
        source = axe()
        if source is None:
            pytest.skip("needs axe-core from npm: make test-browser installs it")
        page = window(*SIZES[size], color_scheme=scheme, bypass_csp=True)
        page.goto(page_file.as_uri())
        page.evaluate(source)
        found = page.evaluate("axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa', 'best-practice']})")
        assert [(each["id"], [node["html"][:120] for node in each["nodes"][:3]]) for each in found["violations"]] == []

    def test_every_picture_opens_to_its_numbers_by_keyboard(self, window, page_file, size, scheme):
        page = window(*SIZES[size], color_scheme=scheme)
        page.goto(page_file.as_uri())
        charts = page.locator("figure.chart")
        assert charts.count() >= 6
        for number in range(charts.count()):
            summary = charts.nth(number).locator("summary")
            summary.focus()
            page.keyboard.press("Enter")
            assert charts.nth(number).locator("table").is_visible()
        assert overflow(page) <= 0


@pytest.mark.parametrize("size", SIZES)
def test_long_names_fit(window, long_names, tmp_path, size):
    path = tmp_path / "report.html"
    path.write_text(as_html(summarise(long_names)), encoding="utf-8")
    page = window(*SIZES[size])
    page.goto(path.as_uri())
    assert overflow(page) <= 0
    effects = page.locator(".effects").first
    assert effects.evaluate("box => box.scrollWidth - box.clientWidth") <= 0


class TestOneFile:
    def test_asks_for_no_other(self, window, page_file):
        page, asked = window(), []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(page_file.as_uri())
        page.wait_for_load_state("networkidle")
        assert asked == [page_file.as_uri()]

    def test_is_printed_in_full(self, window, page_file):
        page = window()
        page.goto(page_file.as_uri())
        page.emulate_media(media="print")
        assert page.locator(".verdict").first.is_visible()
        # Paper is white, whatever the screen is.
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert page.pdf()[:5] == b"%PDF-"

    def test_of_twenty_rollouts_has_less_than_500_kilobytes(self, tmp_path):
        for number in range(10):
            written(tmp_path / "journal", f"shop.rank{number}", units=400)
        text = as_html(summarise(tmp_path / "journal"))
        assert text.count("<article") == 20
        assert len(text.encode()) < 500_000


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    return written(tmp_path_factory.mktemp("hostile"), HOSTILE, HOSTILE, units=300)


class TestHostileNames:
    def test_run_nothing_in_a_report(self, window, hostile, tmp_path):
        path = tmp_path / "report.html"
        path.write_text(as_html(summarise(hostile)), encoding="utf-8")
        page = window()
        page.goto(path.as_uri())
        page.wait_for_load_state("networkidle")
        assert page.locator("script, img, svg[onload]").count() == 0
        assert HOSTILE[:40] in page.locator("h2").first.inner_text()

    def test_run_nothing_in_the_dashboard(self, window, hostile):
        with dashboard(hostile) as (address, _):
            page = window()
            page.goto(address)
            page.locator("ul.cards a").first.wait_for(timeout=60_000)
            page.reload()
            page.locator("ul.cards a").first.click()
            page.locator("h1").wait_for()
            assert HOSTILE[:40] in page.locator("h1").inner_text()
            assert page.locator("main script, main img").count() == 0


class TestAPageThatFollows:
    def test_replaces_itself_when_it_is_older_than_the_first_message(self, window, journal):
        """The journal may have been read after the page was made and before its stream began."""
        with dashboard(journal) as (address, _):
            first, page = window(), window()
            first.goto(address)
            first.locator("ul.cards a").first.wait_for()

            def older(route):
                answer = route.fetch()
                body = re.sub(r'name="version" content="[^"]+"', 'name="version" content="0"', answer.text())
                route.fulfill(response=answer, body=re.sub("<main>.*</main>", "<main>being read</main>", body, flags=re.DOTALL))

            page.route(lambda url: url == address, older, times=1)
            page.goto(address)
            page.locator("ul.cards a").first.wait_for()

    def test_asks_again_for_what_changed_while_it_was_refreshed(self, window, journal):
        with dashboard(journal) as (address, _):
            page, asked = window(), []
            messages = "retry: 600000\n\ndata: first\n\ndata: second\n\n"
            page.route("**/events*", lambda route: route.fulfill(body=messages, content_type="text/event-stream"))
            page.on("request", lambda request: asked.append(request.headers.get("x-fragment")))
            page.goto(address)
            page.locator("#live", has_text="live").wait_for()
            page.wait_for_load_state("networkidle")
            page.wait_for_timeout(500)
            assert asked.count("1") == 2
