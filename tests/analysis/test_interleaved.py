"""An interleaved test from its journal, against what the lists themselves say."""

import random

import pytest

from rollout_sdk import ConfigurationError, Interleave, Runtime, rollout
from rollout_sdk.analysis import analyze_interleaving
from rollout_sdk.interleaving import Balanced, InterleavingAnalyzer, Optimized, Probabilistic, TeamDraft
from rollout_sdk.journal import read_journal

DAY_S = 86_400.0


class Clock:
    def __init__(self):
        self.now_ns = 1_800_000_000 * 10**9

    def __call__(self):
        return self.now_ns

    def days(self, number):
        self.now_ns += int(number * DAY_S * 1e9)


class Search:
    """A search with two rankers or more, and every list that it made."""

    def __init__(self, folder, design=TeamDraft(), candidates=None):
        self.pages, self.clock = [], Clock()
        self.runtime = Runtime(journal=folder, time_ns=self.clock)
        search = self

        class Watched:
            def merge(self, rankings, **options):
                search.pages.append(design.merge(rankings, **options))
                return search.pages[-1]

        candidates = candidates or {"v2": lambda user, query: list("cabed")}
        self.rank = rollout(
            candidates=candidates, strategy=Interleave(Watched(), k=5), unit="user", key="search", runtime=self.runtime
        )(lambda user, query: list("abcdf"))

    def show(self, user, query=0):
        return self.rank.rollout.route(user, query)

    def click(self, routed, item, metric="click"):
        self.rank.rollout.record(metric, 1.0, decision_id=routed.decision.id, item=item)

    def said(self, folder, **options):
        self.runtime.flush(10.0)
        return analyze_interleaving(folder, **options)


@pytest.fixture
def search(tmp_path):
    made = []

    def make(*args, **options):
        made.append(Search(tmp_path, *args, **options))
        return made[-1]

    yield make
    for each in made:
        each.runtime.close(10.0)


@pytest.mark.parametrize("design", [TeamDraft(), Balanced(), Probabilistic()], ids=repr)
def test_the_journal_says_what_the_lists_say(search, tmp_path, design):
    shop, rng, direct = search(design), random.Random(2), InterleavingAnalyzer()
    for number in range(150):
        user = f"u{rng.randrange(40)}"
        routed = shop.show(user, number)
        clicked = [item for item in routed.value if rng.random() < 0.2]
        for item in clicked * 2:
            shop.click(routed, item)
        direct.add(user, shop.pages[-1], dict.fromkeys(clicked, 1.0))
    (found,), expected = shop.said(tmp_path).by_candidate.values(), direct.result()
    for name in ("impressions", "clicked", "units_for", "units_against", "competitive"):
        assert getattr(found, name) == getattr(expected, name), name
    for name in ("wins", "losses", "preference", "credit"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name)), name
    assert found.units == expected.units


def test_lists_of_another_design_than_asked_for_are_told(search, tmp_path):
    pytest.importorskip("scipy", reason="Optimized needs SciPy")
    shop = search(Optimized(), candidates={"v2": lambda user, query: list("cabed"), "v3": lambda user, query: list("bfcda")})
    routed = [shop.show(f"u{number}") for number in range(3)]
    shop.click(routed[0], routed[0].value[0])
    found = shop.said(tmp_path)
    assert {"there are 3 rankers, not two": 3} == found.fallbacks
    assert "3 lists are of another design: there are 3 rankers, not two" in str(found)
    assert {"click": 1} == found.credited
    (decision, *_) = [record for record in read_journal(tmp_path) if record["event"] == "decision"]
    assert [None if team < 0 else shop.pages[0].rankers[team] for team in shop.pages[0].teams] == decision["teams"]


def test_a_late_purchase_credits_every_list_that_showed_the_item_in_time(search, tmp_path):
    shop = search()
    for _ in range(3):
        routed = shop.show("ann", 1)
        shop.clock.days(2)
    teams = {slot.key: slot.team for slot in shop.pages[-1].slots}
    item = next(key for key, team in teams.items() if team == "v2")
    shop.rank.rollout.record("booking", 1.0, unit="ann", item=item)
    shop.rank.rollout.record("booking", 1.0, unit="bob", item=item)
    found = shop.said(tmp_path, window_s=5 * DAY_S)
    # The first list is six days old by then.
    assert (2.0, 0.0, {"booking": 2}) == (found.by_candidate["v2"].wins, found.by_candidate["v2"].losses, found.credited)
    assert {"of a unit that was not shown the item in time": 1} == found.problems
    assert [item] * 3 == [item for page in shop.pages if item in page.keys]
    assert routed.value


def test_kinds_of_events_weigh_what_they_are_said_to(search, tmp_path):
    shop = search()
    routed = shop.show("ann")
    mine, other = (next(s.key for s in shop.pages[-1].slots if s.team == team) for team in ("v2", "control"))
    shop.click(routed, other)
    shop.click(routed, mine, "booking")
    assert shop.said(tmp_path).by_candidate["v2"].preference == 0.0
    assert shop.said(tmp_path, weights={"click": 1, "booking": 20}).by_candidate["v2"].preference == 0.5
    assert shop.said(tmp_path, weights={"click": 1}).by_candidate["v2"].preference == -0.5


def test_a_click_after_the_window_is_counted_and_not_credited(search, tmp_path):
    shop = search()
    routed = shop.show("ann")
    shop.clock.days(8)
    shop.click(routed, routed.value[0])
    found = shop.said(tmp_path)
    assert {"out of the window": 1} == found.problems
    assert 0 == found.by_candidate["v2"].clicked
    assert "1 out of the window" in str(found)


def test_three_rankers_are_compared_with_the_control_one_by_one(search, tmp_path):
    rankers = {"v2": lambda user, query: list("cabed"), "v3": lambda user, query: list("xyabc")}
    shop = search(TeamDraft(), rankers)
    for number in range(80):
        routed = shop.show(f"u{number}", number)
        for slot in shop.pages[-1].slots:
            if slot.team == "v3":
                shop.click(routed, slot.key)
    found = shop.said(tmp_path).by_candidate
    assert found["v3"].preference > 0.3
    assert found["v2"].preference == 0.0


def test_a_failing_candidate_is_no_list(search, tmp_path):
    def fail(user, query):
        raise ValueError

    shop = search(TeamDraft(), {"v2": fail})
    shop.show("ann")
    found = shop.said(tmp_path).by_candidate["v2"]
    assert (0, 1) == (found.impressions, found.not_interleaved)


def test_a_journal_without_lists_is_refused(search, tmp_path):
    shop = search()
    with pytest.raises(ConfigurationError, match="interleaved lists of no rollout"):
        shop.said(tmp_path)
    shop.show("ann")
    with pytest.raises(ConfigurationError, match="interleaved lists of search"):
        shop.said(tmp_path, rollout="other")
