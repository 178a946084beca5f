"""What Interleave offers beside the merge: more items asked for, first pages only, tokens; and that it never costs the page."""

import asyncio
import json
from collections import Counter
from dataclasses import dataclass

import attrs
import pytest
from structlog.testing import capture_logs

from rollout_sdk import (
    ConfigurationError,
    DecisionIdError,
    Interleave,
    OutcomeError,
    Runtime,
    UnknownItemError,
    read_token,
    record,
    rollout,
)
from rollout_sdk.analysis import analyze_interleaving
from rollout_sdk.assignment.ids import decode_id
from rollout_sdk.interleaving import Balanced, PairwisePreference, Probabilistic, TeamDraft

OWN, OTHER = [f"a{n}" for n in range(20)], [f"b{n}" for n in range(20)]


def search(runtime, candidate=None, asked=None, **options):
    """A search for `limit` items, and what each ranker was asked."""
    asked = [] if asked is None else asked

    def other(user, limit, page=1):
        asked.append(("candidate", limit))
        return OTHER[:limit]

    @rollout(
        candidate=candidate or other, strategy=Interleave(**options), unit="user", effects="read", key="search", runtime=runtime
    )
    def control(user, limit, page=1):
        asked.append(("control", limit))
        return OWN[:limit]

    return control


# More than the page ---------------------------------------------------------------------------------------------------------


def test_every_ranker_is_asked_for_more_and_the_page_is_as_long_as_the_caller_asked(runtime):
    asked = []
    served = search(runtime, asked=asked, limit="limit", oversample=2.5)("ann", 5)
    assert [("control", 13), ("candidate", 13)] == asked
    assert 5 == len(served)
    assert {"a", "b"} == {item[0] for item in served}


@pytest.mark.parametrize("how", ["position", "keyword", "default"])
def test_the_number_is_found_however_it_is_passed(how, runtime):
    asked = []

    @rollout(
        candidate=lambda user, limit=4: asked.append(limit) or OTHER[:limit],
        strategy=Interleave(limit="limit", oversample=2),
        unit="user",
        effects="read",
        key="search",
        runtime=runtime,
    )
    def control(user, limit=4):
        asked.append(limit)
        return OWN[:limit]

    served = {
        "position": lambda: control("ann", 4),
        "keyword": lambda: control("ann", limit=4),
        "default": lambda: control("ann"),
    }
    assert 4 == len(served[how]())
    assert [8, 8] == asked


@pytest.mark.parametrize("number", [None, "5", True, 0, -1])
def test_a_number_that_is_none_changes_nothing(number, runtime):
    asked = []

    def rank(user, limit):
        asked.append(limit)
        return OWN[:3]

    served = rollout(
        candidate=rank,
        strategy=Interleave(limit="limit", oversample=2),
        unit="user",
        effects="read",
        key="search",
        runtime=runtime,
    )(rank)("ann", number)
    assert [number, number] == asked
    assert OWN[:3] == served
    assert {} == runtime.faults


def raising(user, limit, page=1):
    raise ValueError("mine")


@pytest.mark.parametrize("candidate", [raising, lambda user, limit, page=1: [], lambda user, limit, page=1: 7])
def test_the_controls_list_is_as_long_as_asked_when_the_candidate_fails(candidate, runtime):
    asked = []
    assert OWN[:5] == search(runtime, candidate, asked, limit="limit", oversample=2)("ann", 5)
    # Nonsense has no list that could be cut: then the control is called as it was.
    assert (["control"] if candidate is raising or candidate(0, 0) == [] else ["control", "control"]) == [
        who for who, _ in asked
    ]
    (event,) = runtime.routed()
    assert (True, "control") == (event.excluded, event.served)


def test_while_the_breaker_is_open_the_control_is_called_as_it_was(runtime):
    asked = []
    served = search(runtime, raising, asked, limit="limit", oversample=2)
    for _ in range(40):
        assert OWN[:5] == served("ann", 5)
    assert ("control", 5) == asked[-1]
    assert "breaker_open" in {event.withheld for event in runtime.routed()}


@pytest.mark.parametrize("kind", ["coroutine", "generator"])
def test_every_kind_of_ranker_is_asked_for_more(kind, runtime):
    def generator(items):
        def rank(user, limit):
            yield from items[:limit]

        return rank

    def coroutine(items):
        async def rank(user, limit):
            return items[:limit]

        return rank

    make = {"coroutine": coroutine, "generator": generator}[kind]
    for candidate, ends in ((make(OTHER), {"a", "b"}), (make([]), {"a"})):
        served = rollout(
            candidate=candidate,
            strategy=Interleave(limit="limit", oversample=2),
            unit="user",
            effects="read",
            key=f"search-{len(ends)}",
            runtime=runtime,
        )(make(OWN))("ann", 5)
        page = asyncio.run(served) if kind == "coroutine" else list(served)
        assert (5, ends) == (len(page), {item[0] for item in page})


def test_a_parameter_that_is_not_there_is_passed_over(runtime):
    assert OWN[:3] == sorted(search(runtime, lambda user, limit, page=1: OWN[:limit], limit="top_k", oversample=2)("ann", 3))


# At once --------------------------------------------------------------------------------------------------------------------


def test_asynchronous_rankers_run_at_once(runtime):
    async def serve():
        both = {name: asyncio.Event() for name in ("control", "candidate")}

        def ranker(name, other, ranking):
            async def rank(user):
                both[name].set()
                # One after the other, the first would wait for ever.
                await asyncio.wait_for(both[other].wait(), 5)
                return ranking

            return rank

        control, candidate = ranker("control", "candidate", OWN[:3]), ranker("candidate", "control", OTHER[:3])
        strategy = Interleave(k=6)
        return await rollout(candidate=candidate, strategy=strategy, unit="user", key="search", runtime=runtime)(control)("ann")

    assert sorted(OWN[:3] + OTHER[:3]) == sorted(asyncio.run(serve()))


# Deadline -------------------------------------------------------------------------------------------------------------------


def test_a_late_candidate_leaves_the_controls_list(runtime):
    async def late(user):
        await asyncio.sleep(30)

    @rollout(candidate=late, strategy=Interleave(), unit="user", effects="read", deadline_s=0.05, key="search", runtime=runtime)
    async def control(user):
        return OWN[:3]

    async def serve():
        return await asyncio.wait_for(control("ann"), 5)

    assert OWN[:3] == asyncio.run(serve())
    (event,) = runtime.routed()
    assert (True, "control", "DeadlineError") == (event.excluded, event.served, event.runs[1].error)


# First page -----------------------------------------------------------------------------------------------------------------


def test_further_pages_are_the_controls_and_are_not_analysed(runtime):
    asked = []
    served = search(runtime, asked=asked, first_page=lambda call: call["page"] == 1)
    assert {"a", "b"} == {item[0] for item in served("ann", 6)}
    assert OWN[:6] == served("ann", 6, page=2)
    assert [("control", 6), ("candidate", 6), ("control", 6)] == asked
    assert [("static", False), ("ineligible", True)] == [(event.decision.reason, event.excluded) for event in runtime.routed()]


def test_a_first_page_that_cannot_be_told_is_the_controls(runtime):
    assert OWN[:6] == search(runtime, first_page=lambda call: call["nothing"] == 1)("ann", 6)
    assert runtime.faults


# Tokens ---------------------------------------------------------------------------------------------------------------------


def stamped(item, token):
    return {"id": item, "token": token}


def test_a_token_says_what_a_click_credits(runtime):
    served = search(runtime, stamp=stamped)
    routed = served.rollout.route("ann", 6)
    (event,) = runtime.routed()
    assert 6 == len(routed.value)
    for position, item in enumerate(routed.value):
        token = read_token(item["token"])
        assert (routed.decision.id, position, event.items[position]) == (token.decision_id, position, token.item)
        assert {event.teams[position]: 1.0} == token.credit


def test_where_all_agree_a_click_credits_nobody(runtime):
    served = search(runtime, lambda user, limit, page=1: OWN[:limit], stamp=stamped)
    assert [{}] * 4 == [read_token(item["token"]).credit for item in served("ann", 4)]


def test_tokens_of_designs_without_teams(runtime):
    probabilistic = search(runtime, stamp=stamped, design=Probabilistic())("ann", 4)
    assert 4 == len(probabilistic)
    for item in probabilistic:
        assert pytest.approx(1.0) == sum(read_token(item["token"]).credit.values())
    for design in (Balanced(), PairwisePreference()):
        served = rollout(
            candidate=lambda user: OTHER[:4],
            strategy=Interleave(design, stamp=stamped),
            unit="user",
            key=repr(design),
            runtime=runtime,
        )(lambda user: OWN[:4])("ann")
        assert [None] * 4 == [read_token(item["token"]).credit for item in served]


def test_a_token_is_signed_where_there_is_a_key(tmp_path):
    key = b"k" * 16
    runtime = Runtime(key=key)
    token = search(runtime, stamp=stamped)("ann", 3)[0]["token"]
    runtime.close()
    assert 0 == read_token(token, key).position
    for wrong in (None, b"x" * 16):
        with pytest.raises(DecisionIdError):
            read_token(token, wrong)
    for at in range(len(token)):
        forged = token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :]
        with pytest.raises(DecisionIdError):
            read_token(forged, key)


def test_an_id_is_no_token_and_a_token_no_id(runtime):
    routed = search(runtime, stamp=stamped).rollout.route("ann", 3)
    with pytest.raises(DecisionIdError):
        read_token(routed.decision.id)
    with pytest.raises(DecisionIdError):
        decode_id(routed.value[0]["token"])


def test_clicks_by_item_position_and_token_credit_the_same(tmp_path):
    said = {}
    for how in ("item", "position", "token"):
        runtime = Runtime(journal=tmp_path / how)
        served = search(runtime, stamp=stamped)
        for visit in range(60):
            routed = served.rollout.route(f"user-{visit}", 6)
            place = next(at for at, item in enumerate(routed.value) if item["id"][0] == "b")
            named = {
                "item": {"decision_id": routed.decision.id, "item": routed.value[place]["id"]},
                "position": {"decision_id": routed.decision.id, "position": place},
                "token": {"token": routed.value[place]["token"]},
            }
            served.rollout.record("click", 1, **named[how])
        runtime.close()
        found = analyze_interleaving(tmp_path / how)
        assert ({"click": 60}, {}) == (found.credited, found.problems)
        said[how] = found.by_candidate["candidate"].wins
    assert {60.0} == set(said.values())


def test_a_token_is_credited_in_another_process(tmp_path, monkeypatch):
    runtime, other = Runtime(journal=tmp_path), Runtime(journal=tmp_path)
    token = search(runtime, stamp=stamped)("ann", 3)[0]["token"]
    monkeypatch.setattr("rollout_sdk.runtime.external.default_runtime", lambda: other)
    record("click", 1, token=token)
    runtime.close()
    other.close()
    events = Counter(json.loads(line)["event"] for file in tmp_path.glob("*.jsonl") for line in file.read_text().splitlines())
    assert 1 == events["outcome"]
    assert {"click": 1} == analyze_interleaving(tmp_path).credited


def test_what_names_no_shown_item_is_refused(runtime):
    served = search(runtime, stamp=stamped)
    routed = served.rollout.route("ann", 3)
    token, decision_id = routed.value[0]["token"], routed.decision.id
    for named in ({"position": 3}, {"position": -1}, {"position": True}, {"position": "0"}, {"position": 0, "item": "a0"}):
        with pytest.raises(UnknownItemError):
            served.rollout.record("click", 1, decision_id=decision_id, **named)
    for named in (
        {"token": token, "decision_id": decision_id},
        {"token": token, "item": "a0"},
        {"token": token, "position": 0},
        {"unit": "ann", "position": 0},
        {},
    ):
        with pytest.raises(OutcomeError):
            served.rollout.record("click", 1, **named)


def test_a_stamp_that_fails_leaves_the_controls_list(runtime):
    def stamp(item, token):
        raise ValueError("mine")

    assert OWN[:4] == search(runtime, stamp=stamp)("ann", 4)
    assert runtime.faults


# Refusals -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [{"oversample": 2}, {"limit": "limit", "oversample": 0.5}, {"limit": "limit", "oversample": True}, {"stamp": 1},
     {"limit": "limit", "oversample": float("nan")}, {"limit": "limit", "oversample": "2"}, {"first_page": "page"}],
)  # fmt: skip
def test_options_that_cannot_work_are_refused(options):
    with pytest.raises(ConfigurationError):
        Interleave(TeamDraft(), **options)


# Items that cannot be told from each other ------------------------------------------------------------------------------------


@dataclass
class Film:
    id: int


@dataclass(frozen=True)
class FrozenFilm:
    id: int


@attrs.define
class AttrsFilm:
    id: int


@attrs.frozen
class FrozenAttrsFilm:
    id: int


class PlainFilm:
    def __init__(self, number):
        self.id = number


def films(make, kind="function"):
    """Rankers of two films, each with new objects."""

    def ranker(order):
        def rank(user):
            return [make(number) for number in order]

        def rank_generator(user):
            yield from rank(user)

        async def rank_async(user):
            return rank(user)

        async def rank_async_generator(user):
            for each in rank(user):
                yield each

        return {
            "function": rank,
            "generator": rank_generator,
            "coroutine": rank_async,
            "async generator": rank_async_generator,
        }[kind]

    return ranker([1, 2]), ranker([2, 1])


def called(model, kind, user):
    async def items():
        return [item async for item in model(user)]

    if kind in ("function", "generator"):
        return list(model(user))
    return asyncio.run(model(user) if kind == "coroutine" else items())


@pytest.mark.parametrize("kind", ["function", "generator", "coroutine", "async generator"])
@pytest.mark.parametrize(
    "make", [lambda number: {"id": number}, Film, AttrsFilm, lambda number: [number]], ids=["dict", "data", "attrs", "list"]
)
def test_items_without_a_hash_are_an_error_that_is_said_once_with_its_cure(make, kind, runtime):
    control, candidate = films(make, kind)
    model = rollout(candidate=candidate, strategy=Interleave(), unit="user", key="films", runtime=runtime)(control)
    with capture_logs() as logs:
        assert [[make(1), make(2)]] * 20 == [called(model, kind, f"u-{number}") for number in range(20)]
        assert runtime.flush(10.0)
    (said,) = [line for line in logs if line["log_level"] in ("warning", "error")]
    assert ("rollout.noticed", "error", "films") == (said["event"], said["log_level"], said["rollout"])
    assert 'Pass key=lambda item: item["id"]' in said["why"]
    status = model.rollout.status()
    assert ((said["why"],), {}, {"static": 20}) == (status.notes, status.faults, status.excluded)


@pytest.mark.parametrize(
    "make", [lambda number: {"id": number}, Film, AttrsFilm, PlainFilm], ids=["dict", "data", "attrs", "plain"]
)
def test_with_a_key_they_are_interleaved_and_nothing_is_said(make, runtime):
    control, candidate = films(make)
    strategy = Interleave(key=lambda item: item["id"] if isinstance(item, dict) else item.id)
    model = rollout(candidate=candidate, strategy=strategy, unit="user", key="films", runtime=runtime)(control)
    for number in range(20):
        model(f"u-{number}")
    events = runtime.routed()
    assert {"interleaved"} == {event.served for event in events}
    assert () == model.rollout.status().notes


@pytest.mark.parametrize(
    "make", [FrozenFilm, FrozenAttrsFilm, str, lambda number: (number,)], ids=["data", "attrs", "text", "tuple"]
)
def test_items_that_are_equal_by_value_need_no_key(make, runtime):
    control, candidate = films(make)
    model = rollout(candidate=candidate, strategy=Interleave(), unit="user", key="films", runtime=runtime)(control)
    assert {make(1), make(2)} == set(model("ann"))
    assert (["interleaved"], ()) == ([event.served for event in runtime.routed()], model.rollout.status().notes)


def test_items_that_are_equal_to_themselves_only_are_noted_once(runtime):
    control, candidate = films(PlainFilm)
    model = rollout(candidate=candidate, strategy=Interleave(), unit="user", key="films", runtime=runtime)(control)
    for number in range(20):
        model(f"u-{number}")
    (note,) = model.rollout.status().notes
    assert "type PlainFilm, each of which is equal to itself only" in note
    assert "Pass Interleave(key=" in note


class Page(list):
    """A list of a type of its own."""


@pytest.mark.parametrize(
    "answer", [Page(["a", "b"]), {"items": ["a"]}, None, range(3)], ids=lambda answer: type(answer).__name__
)
def test_a_control_that_gives_no_list_is_an_error_that_is_said_once(answer, runtime):
    model = rollout(candidate=lambda user: ["b", "a"], strategy=Interleave(), unit="user", key="k", runtime=runtime)(
        lambda user: answer
    )
    assert [answer] * 3 == [model("ann") for _ in range(3)]
    (note,) = model.rollout.status().notes
    assert "'control' gave a" in note
    assert note.endswith("Give Interleave items= and rebuild=.")
    assert {("interleave.rollout_merge", "TypeError"): 3} == runtime.faults


def test_more_rankers_than_the_design_can_take_are_an_error_that_is_said_once(runtime):
    others = {"v2": lambda user: ["b", "a"], "v3": lambda user: ["a", "b"]}
    model = rollout(candidates=others, strategy=Interleave(Balanced()), unit="user", key="k", runtime=runtime)(
        lambda user: ["a", "b"]
    )
    assert [["a", "b"]] * 3 == [model("ann") for _ in range(3)]
    (note,) = model.rollout.status().notes
    assert "This design is defined for 2 only" in note


def test_a_page_of_items_without_a_hash_is_as_long_as_asked(runtime):
    asked = []

    def rank(user, limit):
        asked.append(limit)
        return [{"id": number} for number in range(limit)]

    strategy = Interleave(limit="limit", oversample=3)
    model = rollout(candidate=rank, strategy=strategy, unit="user", key="k", runtime=runtime)(rank)
    assert [{"id": 0}, {"id": 1}] == model("ann", 2)
    assert [6, 6] == asked
