"""What a page that stays open says of interleaved lists is what the report says."""

import random

import pytest

from rollout_sdk import Gate, Interleave, Runtime, rollout
from rollout_sdk.analysis import summarise
from rollout_sdk.analysis.live import Live
from rollout_sdk.dashboard.live import LivePages
from rollout_sdk.interleaving import PairwisePreference, TeamDraft
from rollout_sdk.page import as_html
from tests.waiting import until


def popular(unit):
    return [f"film{(number + len(unit)) % 40}" for number in range(10)]


def close(unit):
    return [f"film{(3 * number + ord(unit[-1])) % 40}" for number in range(10)]


def away(unit):
    return [f"film{(7 * number + ord(unit[-1])) % 40}" for number in range(10)]


def shown(strategy, folder, pieces, metrics=("click",), **candidates):
    """Serve interleaved lists, of which the items of `close` are clicked the most, and let go on after each piece."""
    draw = random.Random(5)
    runtime = Runtime(journal=folder, key=b"k" * 16)
    films = rollout(candidates=candidates, strategy=strategy, unit="unit", key="films", runtime=runtime)(popular)
    for _ in range(pieces):
        for _ in range(300):
            unit = f"u{draw.randrange(400)}"
            routed = films.rollout.route(unit)
            for item in routed.value:
                if draw.random() < (0.2 if item in close(unit) else 0.05):
                    films.rollout.record(draw.choice(metrics), 1.0, decision_id=routed.decision.id, item=item)
        runtime.flush()
        yield
    runtime.close()


def read(folder, strategy, **options):
    live = None
    for _ in shown(strategy, folder, 4, **options):
        live = live or Live(folder)
        live.read()
        live.report()
    live.read()
    return live.report().rollouts[0], summarise(folder).rollouts[0]


@pytest.mark.parametrize(
    ("strategy", "options"),
    [
        (Interleave(k=10, gates=[Gate("click", mde=0.02)]), {"close": close}),
        # Declared with a window, and not declared at all.
        (Interleave(k=10, gates=[Gate("click", mde=0.02, window=3600)]), {"close": close, "metrics": ("click", "buy")}),
        (Interleave(k=10), {"close": close}),
        (Interleave(TeamDraft(), k=10), {"close": close, "away": away}),
        (Interleave(PairwisePreference(), k=10), {"close": close}),
    ],
    ids=["gate", "window", "undeclared", "three rankers", "unfair"],
)
def test_preferences_are_those_of_a_report(tmp_path, strategy, options):
    ours, theirs = read(tmp_path, strategy, **options)
    (mine,), (expected,) = ([phase.preferences for phase in each.phases] for each in (ours, theirs))
    assert len(options) == len(expected)

    def counts(each):
        return (each.candidate, each.metric, each.lists, each.wins, each.losses, each.ties, each.is_fair)

    assert list(map(counts, expected)) == list(map(counts, mine))
    for one, two in zip(mine, expected, strict=True):
        assert one.preference.mean == pytest.approx(two.preference.mean, abs=1e-12)
        # 400 units are in fewer buckets, some of them together.
        assert one.preference.low == pytest.approx(two.preference.low, abs=0.01)
        assert one.preference.high == pytest.approx(two.preference.high, abs=0.01)


def test_a_rollout_without_lists_and_a_list_without_a_click_have_none(tmp_path):
    runtime = Runtime(journal=tmp_path, key=b"k" * 16)
    films = rollout(candidates={"close": close}, strategy=Interleave(k=10), unit="unit", key="films", runtime=runtime)(popular)
    films("u1")
    runtime.close()
    live = Live(tmp_path)
    live.read()
    assert () == live.report().rollouts[0].phases[0].preferences


def test_the_live_page_shows_the_picture_of_the_report(tmp_path):
    for _ in shown(Interleave(k=10, gates=[Gate("click", mde=0.02)]), tmp_path, 1, close=close):
        pass
    title = "Preference in interleaved lists"
    assert title in as_html(summarise(tmp_path))
    with LivePages(tmp_path, every_s=0.05) as pages:
        until(lambda: title in (pages.rollout("films") or ""))
        assert "click · close" in pages.rollout("films")
