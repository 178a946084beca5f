"""The dashboard in a real browser, beside a process that serves."""

import time

import pytest

from rollout_sdk.control.stored import StoredRollout

from .conftest import TOKEN, axe, dashboard, line_of

pytestmark = pytest.mark.browser


def logged_in(window, address, *size, **options):
    page = window(*size, **options)
    page.goto(f"{address}login")
    page.get_by_label("You").fill("ann")
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("button", name="Log in").click()
    page.locator("ul.cards a").first.wait_for(timeout=60_000)
    return page


def test_shows_what_is_new_by_itself(window, service):
    _, journal, store = service
    with dashboard(journal, "--store", store) as (address, _):
        page = window()
        page.goto(f"{address}rollout/shop.rank")
        page.locator("#live", has_text="live").wait_for(timeout=60_000)
        page.locator("h1", has_text="shop.rank").wait_for(timeout=60_000)
        with StoredRollout(store, "shop.rank", actor="bob") as rollout:
            rollout.pause(reason="to see it")
        began = time.monotonic()
        page.get_by_text("paused in phase").wait_for(timeout=30_000)
        print(f"shown after {time.monotonic() - began:.1f} s")
        page.get_by_text("History", exact=True).click()
        page.get_by_role("cell", name="to see it").wait_for(timeout=30_000)


def test_an_abort_reaches_the_process_that_serves(window, service):
    started, journal, store = service
    with dashboard(journal, "--store", store, "--operate") as (address, _):
        page = logged_in(window, address)
        page.goto(f"{address}rollout/shop.rank")
        page.locator("summary", has_text="Abort").click()
        page.get_by_role("button", name="Abort now").click()
        clicked = time.time()
        page.get_by_text("aborted in phase").wait_for(timeout=30_000)
        stopped_s = float(line_of(started, r"control ([\d.]+)")[1])
        # It asks the store every half second; the rest is room for a busy machine.
        assert stopped_s - clicked < 3.0
        with StoredRollout(store, "shop.rank") as rollout:
            last = rollout.history()[-1]
        assert (last["action"], last["actor"]) == ("abort", "ann")


def test_every_page_passes_the_rules_of_accessibility_and_fits(window, service):
    source = axe()
    if source is None:
        pytest.skip("needs axe-core from npm: make test-browser installs it")
    _, journal, store = service
    with dashboard(journal, "--store", store, "--operate") as (address, _):
        for size in ((1280, 800), (390, 844)):
            for scheme in ("light", "dark"):
                page = logged_in(window, address, *size, color_scheme=scheme, bypass_csp=True)
                for path in ("", "rollout/shop.rank", "rollout/unknown", "nowhere", "login"):
                    page.goto(f"{address}{path}")
                    page.locator("h1").first.wait_for()
                    for each in page.locator(".operate summary, details.block > summary").all():
                        each.click()
                    page.evaluate(source)
                    found = page.evaluate("axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa', 'best-practice']})")
                    wrong = [(each["id"], [node["html"][:120] for node in each["nodes"][:3]]) for each in found["violations"]]
                    assert (path, []) == (path, wrong)
                    overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
                    assert page.evaluate(overflow) <= 0, path


def test_the_button_that_aborts_is_seen_without_scrolling(window, service):
    _, journal, store = service
    with dashboard(journal, "--store", store, "--operate") as (address, _):
        for size in ((1280, 800), (390, 844)):
            page = logged_in(window, address, *size)
            page.goto(f"{address}rollout/shop.rank")
            box = page.locator("summary", has_text="Abort").bounding_box()
            assert box["y"] + box["height"] <= size[1]


def test_who_has_a_wrong_token_sees_no_button(window, service):
    _, journal, store = service
    with dashboard(journal, "--store", store, "--operate") as (address, _):
        page = window()
        page.goto(f"{address}login")
        page.get_by_label("You").fill("eve")
        page.get_by_label("Token").fill("guess")
        page.get_by_role("button", name="Log in").click()
        assert page.get_by_role("alert").inner_text() == "The token is wrong."
        page.goto(f"{address}rollout/shop.rank")
        assert page.locator(".operate").count() == 0


def test_a_form_that_is_sent_again_does_nothing(window, service):
    _, journal, store = service
    with dashboard(journal, "--store", store, "--operate") as (address, _):
        page = logged_in(window, address)
        page.goto(f"{address}rollout/shop.rank")
        fields = (
            page.locator(".operate form")
            .filter(has=page.locator("[value=pause]"))
            .evaluate("form => Object.fromEntries(new FormData(form))")
        )
        send = (
            """fields => fetch('/operate', {method: 'POST', body: new URLSearchParams(fields)}).then(answer => answer.status)"""
        )
        assert page.evaluate(send, fields) == 200
        assert page.evaluate(send, fields) == 409


def test_a_form_of_another_origin_changes_nothing(window, service, tmp_path):
    _, journal, store = service
    with dashboard(journal, "--store", store, "--operate") as (address, _):
        page = logged_in(window, address)
        page.goto(f"{address}rollout/shop.rank")
        fields = page.locator(".operate form").first.evaluate("form => Object.fromEntries(new FormData(form))")
        inputs = "".join(f'<input name="{name}" value="{value}">' for name, value in fields.items())
        evil = tmp_path / "evil.html"
        evil.write_text(f'<form method="post" action="{address}operate">{inputs}<button>win</button></form>')
        page.goto(evil.as_uri())
        page.get_by_role("button").click()
        page.get_by_role("alert").wait_for()
        with StoredRollout(store, "shop.rank") as rollout:
            assert rollout.status().status == "running"


def test_the_process_that_serves_does_not_notice_that_it_is_killed(window, service):
    started, journal, store = service
    with dashboard(journal, "--store", store) as (address, shown):
        page = window()
        page.goto(address)
        shown.kill()
        shown.wait()
        page.get_by_text("connection lost").wait_for(timeout=30_000)
    assert started.poll() is None
    with StoredRollout(store, "shop.rank", actor="bob") as rollout:
        rollout.abort(reason="it is still served")
    line_of(started, r"control ([\d.]+)")
