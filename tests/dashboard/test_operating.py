import re

import pytest
from starlette.testclient import TestClient

from rollout_sdk import Canary, Runtime, rollout
from rollout_sdk.control.stored import StoredRollout
from rollout_sdk.dashboard.app import application
from rollout_sdk.dashboard.sessions import Sessions
from rollout_sdk.exceptions import ConfigurationError
from rollout_sdk.page import AFTER_EFFECTS

from .conftest import HOME, TOKEN, fields_of


class TestWhoKnowsTheToken:
    def test_finds_the_buttons_before_the_charts_and_who_does_not_finds_none(self, operator, pages):
        made = f'<h1>shop.rank</h1>{AFTER_EFFECTS}<div class="charts"></div>'
        pages.rollout = lambda key: made
        page = operator.get("/rollout/shop.rank").text
        assert page.index("</h1>") < page.index("Abort now") < page.index('class="charts"')
        operator.post("/logout")
        assert made in operator.get("/rollout/shop.rank").text

    def test_aborts_with_a_click_and_a_confirmation(self, operator, look, history):
        fields = fields_of(operator.get("/rollout/shop.rank"), "abort")
        answer = operator.post("/operate", data={**fields, "reason": "complaints from France"})
        assert answer.status_code == 303
        assert answer.headers["location"] == "/rollout/shop.rank"
        assert look().status == "aborted"
        last = history()[-1]
        assert (last["action"], last["actor"], last["reason"]) == ("abort", "ann", "complaints from France")

    def test_pauses_and_resumes(self, operator, look):
        operator.post("/operate", data=fields_of(operator.get("/rollout/shop.rank"), "pause"))
        assert look().status == "paused"
        page = operator.get("/rollout/shop.rank")
        with pytest.raises(StopIteration):
            fields_of(page, "pause")
        operator.post("/operate", data={**fields_of(page, "resume"), "reason": "it was the network"})
        assert look().status == "running"

    def test_sets_a_share_in_percent(self, operator, look):
        fields = fields_of(operator.get("/rollout/shop.rank"), "set_share")
        operator.post("/operate", data={**fields, "share": "5", "reason": "slowly"})
        assert look().shares["v2"] == pytest.approx(0.05)

    def test_names_the_candidate_where_there_are_several(self, operator, pages, address):
        assert 'name="candidate"' not in operator.get("/rollout/shop.rank").text
        runtime = Runtime(store=address, journal=None)
        candidates = {name: lambda unit: name for name in ("v2", "v3")}
        canary = Canary([{"v2": 0.1, "v3": 0.1}], guardrails=[])
        rollout(key="shop.ads", strategy=canary, candidates=candidates, unit="unit", runtime=runtime)(lambda unit: "old")
        runtime.close(1.0)
        pages.keys.append("shop.ads")
        page = operator.get("/rollout/shop.ads")
        assert re.findall(r'name="candidate"[^>]* value="([^"]*)"', page.text) == ["v2"]
        fields = fields_of(page, "set_share")
        answer = operator.post("/operate", data={**fields, "share": "5", "candidate": "v3", "reason": "slowly"})
        assert answer.status_code == 303
        with StoredRollout(address, "shop.ads") as found:
            assert (0.1, 0.05) == tuple(found.status().shares[name] for name in ("v2", "v3"))

    @pytest.mark.parametrize("share", ["", "nan", "inf", "-3", "300", "five", "1e400"])
    def test_hears_of_a_share_that_cannot_be(self, operator, look, share):
        fields = fields_of(operator.get("/rollout/shop.rank"), "set_share")
        before = look().revision
        answer = operator.post("/operate", data={**fields, "share": share, "reason": "slowly"})
        assert answer.status_code == 400
        assert look().revision == before

    def test_promotes_against_the_verdict_only_with_the_box_ticked(self, operator, look):
        fields = fields_of(operator.get("/rollout/shop.rank"), "promote")
        answer = operator.post("/operate", data={**fields, "reason": "now"})
        assert answer.status_code == 400
        assert "PASS" in answer.text
        fields = fields_of(operator.get("/rollout/shop.rank"), "promote")
        assert operator.post("/operate", data={**fields, "reason": "now", "force": "on"}).status_code == 303
        assert look().shares["v2"] == pytest.approx(0.5)

    def test_must_give_a_reason_for_what_is_not_urgent(self, operator, look):
        fields = fields_of(operator.get("/rollout/shop.rank"), "promote")
        answer = operator.post("/operate", data={**fields, "reason": "  ", "force": "on"})
        assert answer.status_code == 400
        assert "reason" in answer.text
        assert look().shares["v2"] == pytest.approx(0.1)

    def test_is_refused_when_another_change_came_first(self, operator, address, look):
        fields = fields_of(operator.get("/rollout/shop.rank"), "set_share")
        with StoredRollout(address, "shop.rank", actor="bob") as rollout:
            rollout.pause(reason="wait")
        answer = operator.post("/operate", data={**fields, "share": "50", "reason": "faster"})
        assert answer.status_code == 409
        assert look().shares["v2"] == pytest.approx(0.1)

    def test_loses_the_session_on_logging_out(self, operator):
        assert 'name="ticket"' in operator.get("/rollout/shop.rank").text
        operator.post("/logout")
        assert 'name="ticket"' not in operator.get("/rollout/shop.rank").text

    def test_loses_it_for_good_whatever_the_browser_keeps(self, operator):
        kept = dict(operator.cookies)
        assert operator.post("/logout").headers["location"] == "/"
        assert not operator.cookies
        operator.cookies.update(kept)
        assert 'name="ticket"' not in operator.get("/rollout/shop.rank").text

    def test_is_not_logged_out_by_another_site(self, operator):
        kept = dict(operator.cookies)
        assert operator.post("/logout", headers={"origin": "http://evil.example"}).status_code == 303
        operator.cookies.update(kept)
        assert 'name="ticket"' in operator.get("/rollout/shop.rank").text


class TestForms:
    def test_sent_twice_do_it_once(self, operator, look, history):
        fields = fields_of(operator.get("/rollout/shop.rank"), "pause")
        assert operator.post("/operate", data=fields).status_code == 303
        before = len(history())
        answer = operator.post("/operate", data=fields)
        assert answer.status_code == 409
        assert len(history()) == before

    def test_of_one_rollout_change_no_other(self, operator, look):
        fields = fields_of(operator.get("/rollout/shop.rank"), "abort")
        answer = operator.post("/operate", data={**fields, "key": "shop.other"})
        assert answer.status_code == 409
        assert look().status == "running"

    @pytest.mark.parametrize("origin", ["http://evil.example", "http://localhost:8001", "null", None])
    def test_of_another_origin_are_refused(self, operator, look, origin):
        fields = fields_of(operator.get("/rollout/shop.rank"), "abort")
        operator.headers.pop("origin")
        headers = {} if origin is None else {"origin": origin}
        assert operator.post("/operate", data=fields, headers=headers).status_code == 403
        assert look().status == "running"

    def test_without_a_session_are_refused(self, app, operator, look):
        fields = fields_of(operator.get("/rollout/shop.rank"), "abort")
        with TestClient(app, base_url=HOME, headers={"origin": HOME}) as stranger:
            assert stranger.post("/operate", data=fields).status_code == 403
        assert look().status == "running"

    def test_of_another_session_are_refused(self, app, operator, look):
        fields = fields_of(operator.get("/rollout/shop.rank"), "abort")
        with TestClient(app, base_url=HOME, headers={"origin": HOME}, follow_redirects=False) as other:
            other.post("/login", data={"actor": "eve", "token": TOKEN})
            assert other.post("/operate", data=fields).status_code == 409
        assert look().status == "running"

    @pytest.mark.parametrize(
        "change", [{"action": "explode"}, {"revision": "x"}, {"revision": "-1"}, {"revision": "٣"}, {"revision": "9" * 5000}]
    )
    def test_that_say_nonsense_change_nothing(self, operator, look, change):
        fields = fields_of(operator.get("/rollout/shop.rank"), "abort")
        answer = operator.post("/operate", data={**fields, **change})
        assert 400 <= answer.status_code < 500
        assert look().status == "running"

    def test_of_megabytes_are_refused(self, operator, look):
        fields = fields_of(operator.get("/rollout/shop.rank"), "abort")
        assert operator.post("/operate", data={**fields, "reason": "x" * 3_000_000}).status_code == 403
        assert look().status == "running"

    def test_are_not_accepted_from_an_address(self, operator, look):
        fields = fields_of(operator.get("/rollout/shop.rank"), "abort")
        assert operator.get("/operate", params=fields).status_code == 405
        assert look().status == "running"


class TestTheToken:
    def test_that_is_wrong_opens_nothing(self, browser):
        answer = browser.post("/login", data={"actor": "eve", "token": TOKEN + "x"})
        assert answer.status_code == 403
        assert "set-cookie" not in answer.headers

    def test_is_not_tried_any_more_after_ten_wrong_ones(self, browser):
        for _ in range(10):
            assert browser.post("/login", data={"actor": "eve", "token": "guess"}).status_code == 403
        assert browser.post("/login", data={"actor": "ann", "token": TOKEN}).status_code == 429

    def test_is_tried_again_after_a_minute(self):
        now = 0.0
        sessions = Sessions(TOKEN, clock=lambda: now)
        for _ in range(10):
            sessions.open("guess", "eve")
        assert sessions.is_locked()
        now = 61.0
        assert not sessions.is_locked()

    def test_is_in_no_address_and_in_no_page(self, operator):
        for path in ("/", "/rollout/shop.rank", "/login"):
            assert TOKEN not in operator.get(path).text
        assert operator.get("/login", params={"token": TOKEN}).status_code == 200
        # A token in an address is not read, so none lands in a log by logging in.
        assert operator.post(f"/login?token={TOKEN}&actor=ann", data={"actor": "ann"}).status_code == 403

    def test_that_can_be_guessed_is_refused(self):
        with pytest.raises(ConfigurationError, match="at least 16"):
            Sessions("secret")

    def test_makes_a_session_that_ends(self):
        now = 0.0
        sessions = Sessions(TOKEN, clock=lambda: now)
        session_id = sessions.open(TOKEN, "ann")
        assert sessions.find(session_id).actor == "ann"
        now = 8 * 3_600.0
        assert sessions.find(session_id) is None

    def test_makes_a_cookie_that_scripts_and_other_sites_do_not_get(self, browser):
        cookie = browser.post("/login", data={"actor": "ann", "token": TOKEN}).headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie

    def test_needs_a_name_for_the_history(self, browser):
        assert browser.post("/login", data={"actor": "  ", "token": TOKEN}).status_code == 400


class TestReadOnly:
    @pytest.fixture
    def reader(self, pages):
        with TestClient(application(pages), base_url=HOME, headers={"origin": HOME}) as client:
            yield client

    def test_is_the_default(self, reader):
        page = reader.get("/rollout/shop.rank")
        assert "<form" not in page.text
        assert reader.post("/operate", data={"action": "abort"}).status_code == 403
        assert reader.post("/login", data={"actor": "ann", "token": TOKEN}).status_code == 403
        assert reader.post("/logout", follow_redirects=False).status_code == 303

    def test_a_token_without_a_store_is_a_mistake(self, pages):
        with pytest.raises(ConfigurationError, match="store"):
            application(pages, token=TOKEN)
