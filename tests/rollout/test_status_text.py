"""What `print(status())` says, line by line."""

from attrs import evolve

from rollout_sdk import RolloutStatus, Verdict

PLAIN = RolloutStatus(
    key="shop.rank", strategy="canary", status="running", phase="1:5%", revision=1,
    shares={"control": 0.95, "v2": 0.05}, realised={"control": 0.96, "v2": 0.04}, calls={"control": 1_234, "v2": 51},
    excluded={}, errors={}, fallbacks={}, open_breakers=(), shadows={}, faults={}, lost=0, fingerprint="49f464a2",
)  # fmt: skip
HEAD = [
    "shop.rank: canary, running, phase 1:5%",
    "  control          configured  95.0000%  realised  96.0000%  calls 1,234",
    "  v2               configured   5.0000%  realised   4.0000%  calls 51",
]


def said(**about):
    return str(evolve(PLAIN, **about)).splitlines()


def more(**about):
    lines = said(**about)
    assert HEAD[1:] == lines[1:3]
    return [line.strip() for line in lines[3:]]


def test_where_nothing_is_wrong_only_shares_are_said():
    assert HEAD == said()


def test_versions_are_named_where_there_are_any():
    assert "  version 7" == said(version="7")[1]
    assert "  version 7, number 2 of this rollout: each has an alpha of its own" == said(version="7", versions=2)[1]
    assert "  fingerprint 49f464a2, number 3 of this rollout: each has an alpha of its own" == said(versions=3)[1]


def test_what_keeps_a_rollout_from_its_steps_comes_first():
    lines = said(invalid="the shares are wrong", paused_by=("error_rate", "click"))
    assert (
        "  INVALID, no step is taken until resume(clear_invalid=True, actor=..., reason=...): the shares are wrong" == lines[1]
    )
    assert "  paused until it has recovered: error_rate, click" == lines[2]


def test_a_variant_without_a_share_or_without_calls_has_a_line():
    lines = said(shares={"control": 1.0, "v3": 0.0}, realised={"control": 1.0}, calls={"control": 5, "v2": 2_000})
    assert "  v3               configured   0.0000%  realised         -  calls 0" == lines[2]
    assert "  v2               configured         -  realised         -  calls 2,000" == lines[3]


def test_counts_are_said_by_what_was_counted():
    found = more(
        shadows={("v2", "ok"): 1_000}, errors={("v2", "KeyError"): 3}, fallbacks={("v2", "KeyError"): 2},
        unmeasured={("v2", "Lazy"): 4}, faults={("journal", "OSError"): 5}, excluded={"override": 6},
        units_from={"user_id": 7, "device_id": 8}, open_breakers=("v2",), held_by=("a flag",), notes=("read once",), lost=9_000,
    )  # fmt: skip
    assert found == [
        "shadow v2 ok: 1,000", "error v2 KeyError: 3", "fallback v2 KeyError: 2", "unmeasured v2 Lazy: 4",
        "fault journal OSError: 5", "not analysed, override: 6", "unit from user_id: 7", "unit from device_id: 8",
        "breaker of v2 is open", "no candidate runs here: a flag holds it", "note: read once", "lost facts: 9,000",
    ]  # fmt: skip


def test_the_last_verdict_stands_at_the_end():
    about = {"rollout": "shop.rank", "outcome": "INCONCLUSIVE", "reason": "too few calls.", "phase": "1:5%"}
    verdict = Verdict(**about, revision=1, time_s=1e9, units={}, outcomes={})
    lines = said(lost=1, verdict=verdict)
    assert ["  lost facts: 1", *(f"  {line}" for line in str(verdict).splitlines())] == lines[3:]
    assert "INCONCLUSIVE" in lines[4]


def test_shadows_are_compared_with_the_control():
    found = more(
        agreement={"v2": (200, 150, 0.68, 0.81)}, durations={"v2": (190, (0.001, 0.002, 0.5), (0.002, 0.003, 1.25))},
        differences={("v2", "value"): 40, ("v2", "missing"): 10, ("v3", "value"): 99}, not_copied={("v2", "Upload"): 3},
        fields={("v2", "price"): (200, 190), ("v2", "name"): (100, 50), ("v2", "id"): (200, 200)},
    )  # fmt: skip
    assert found == [
        "shadow v2 had no copy of its input: Upload 3",
        "shadow v2 agrees in 75.00% of 200 pairs [68.0%, 81.0%]",
        "shadow v2 differed in: value 40, missing 10",
        "shadow v2, field name: differs in 50.00% of 100 pairs",
        "shadow v2, field price: differs in 5.00% of 200 pairs",
        "shadow v2, field id: differs in 0.00% of 200 pairs",
        "shadow v2, ms at p50 p95 p99 of the same 190 calls: control 1.000 2.000 500.000, candidate 2.000 3.000 1,250.000",
    ]


def test_the_rarest_of_many_are_counted_together():
    found = more(
        not_copied={("v2", f"type {number:02}"): 20 - number for number in range(12)},
        agreement={"v2": (10, 10, 0.7, 1.0)},
        fields={("v2", f"field {number:02}"): (100, 100 - number) for number in range(12)},
    )
    kept = ", ".join(f"type {number:02} {20 - number}" for number in range(10))
    assert f"shadow v2 had no copy of its input: {kept}, others 19" == found[0]
    assert "shadow v2, field field 11: differs in 11.00% of 100 pairs" == found[2]
    assert ("shadow v2, field field 02: differs in 2.00% of 100 pairs", "shadow v2: 2 more fields, which differ less") == (
        *found[11:],
    )
