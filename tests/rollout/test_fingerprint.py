"""A fingerprint is the same for the same configuration, in every process, and another one after any change that matters."""

import functools
import json
import math
from datetime import timedelta
from enum import Enum

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollout_sdk import ABTest, Canary, Decision, Gate, Guardrail, Interleave, Layer, Runtime, Shadow, Step, rollout
from rollout_sdk.assignment.ids import decode_id
from rollout_sdk.interleaving import Balanced, TeamDraft


def decorated(strategy=None, *, key=None, runtime=None, candidates=("v2",), **options):
    strategy = ABTest(dict.fromkeys(candidates, 0.2)) if strategy is None else strategy
    runtime = Runtime(key=key) if runtime is None else runtime
    functions = {name: lambda user, session: "new" for name in candidates}
    options = {"key": "r", "unit": "user", "effects": "read", **options}
    return rollout(candidates=functions, strategy=strategy, runtime=runtime, **options)(lambda user, session: "old")


def fingerprint(*args, **options):
    return decorated(*args, **options).rollout.status().fingerprint


class Targeting:
    """A strategy as a plugin may have it: what it was built with is configuration, and the rest is its own business."""

    name = "targeting"

    def __init__(self, countries, seed=1):
        self.countries, self.seed = countries, seed
        self.calls, self.cache, self.client = id(self), {}, object()

    def rollout_route(self, request):
        return Decision(request.control)


class Colour(Enum):
    RED = 1
    BLUE = 2


@attrs.frozen
class Rule:
    place: str
    wait: timedelta = timedelta(1)


def plain(request):
    return request


def nested(depth, value, inside=lambda each: [each]):
    for _ in range(depth):
        value = inside(value)
    return value


# The same, or another ---------------------------------------------------------------------------------------------------

SAME = {
    "an empty version": ({}, {"version": ""}),
    "the order of candidates": (
        {"candidates": ("a", "b"), "strategy": ABTest({"a": 0.1, "b": 0.2})},
        {"candidates": ("b", "a"), "strategy": ABTest({"b": "20%", "a": "10%"})},
    ),
    "a share as text, and by name": ({"strategy": ABTest("20%")}, {"strategy": ABTest({"v2": 0.2})}),
    "a holdout as text": ({"holdout": 0.05}, {"holdout": "5%"}),
    "a layer's edges as text": ({"layer": Layer("l", 0, 0.5)}, {"layer": Layer("l", "0%", "50%")}),
    "a key as text": ({"key": b"secret"}, {"key": "secret"}),
    "the steps of a canary": ({"strategy": Canary(["5%"])}, {"strategy": Canary([Step("1%", min_time="1h"), "50%"])}),
    "what a canary is judged by": (
        {"strategy": Canary(["5%"])},
        {"strategy": Canary(["5%"], guardrails=[Guardrail("latency", threshold_s=1)], gates=[Gate("click")], alpha=0.01)},
    ),
    "how it fails": ({}, {"failed_if": lambda answer: not answer, "breaker": None, "passthrough": (KeyError,)}),
    "who is overridden": ({}, {"override": {"u-1": "v2"}}),
    "a set in another order": ({"strategy": Targeting({"de", "fr", "it"})}, {"strategy": Targeting({"it", "de", "fr"})}),
    "a list and a tuple": ({"strategy": Targeting(["de"])}, {"strategy": Targeting(("de",))}),
    "1 and 1.0": ({"strategy": Targeting((), seed=1)}, {"strategy": Targeting((), seed=1.0)}),
    "what is seven deep in lists": ({"strategy": Targeting(nested(7, "a"))}, {"strategy": Targeting(nested(7, "b"))}),
    "what is seven deep in mappings": (
        {"strategy": Targeting(nested(7, "a", lambda each: {"in": each}))},
        {"strategy": Targeting(nested(7, "b", lambda each: {"in": each}))},
    ),
    "objects of one class": ({"strategy": Targeting(object())}, {"strategy": Targeting(object())}),
}


@pytest.mark.parametrize("what", SAME)
def test_the_same_configuration_has_the_same_fingerprint(what):
    one, other = SAME[what]
    assert fingerprint(**one) == fingerprint(**other)


OTHER = {
    "version": ({"version": "1"}, {"version": "2"}),
    "hash key": ({"key": b"one"}, {"key": b"two"}),
    "no hash key": ({"key": b"one"}, {}),
    "unit": ({}, {"unit": "session"}),
    "no unit": ({}, {"unit": None}),
    "units in another order": ({"unit": ("user", "session")}, {"unit": ("session", "user")}),
    "a unit's function": ({"unit": lambda user, session: user}, {"unit": functools.partial(lambda user, session: user)}),
    "missing_unit": ({}, {"missing_unit": "random"}),
    "a layer": ({}, {"layer": Layer("l")}),
    "a layer's name": ({"layer": Layer("l")}, {"layer": Layer("m")}),
    "a layer's slot": ({"layer": Layer("l", 0, 0.5)}, {"layer": Layer("l", 0, 0.6)}),
    "holdout": ({}, {"holdout": 0.01}),
    "the control's name": ({}, {"control_name": "legacy"}),
    "a candidate's name": ({}, {"candidates": ("v3",)}),
    "a further candidate": ({}, {"candidates": ("v2", "v3")}),
    "strategy": ({"strategy": ABTest(0.5)}, {"strategy": Canary(["50%"])}),
    "share": ({"strategy": ABTest(0.5)}, {"strategy": ABTest(0.1)}),
    "a share in its ninth digit": ({"strategy": ABTest(0.5)}, {"strategy": ABTest(0.500000001)}),
    "an ABTest's shadow": ({"strategy": ABTest(0.5)}, {"strategy": ABTest(0.5, shadow=0.1)}),
    "a Shadow's rate": ({"strategy": Shadow(0.5)}, {"strategy": Shadow(0.1)}),
    "a design": ({"strategy": Interleave()}, {"strategy": Interleave(Balanced())}),
    "a design's argument": ({"strategy": Interleave()}, {"strategy": Interleave(TeamDraft(neutral="off"))}),
    "the length of a list": ({"strategy": Interleave(k=5)}, {"strategy": Interleave(k=6)}),
    "a function of Interleave": ({"strategy": Interleave(key=str)}, {"strategy": Interleave(key=repr)}),
    "an argument of a plugin's strategy": ({"strategy": Targeting(["de"])}, {"strategy": Targeting(["fr"])}),
    "an element of a set": ({"strategy": Targeting({"de", "fr"})}, {"strategy": Targeting({"de", "it"})}),
    "what is five deep in lists": ({"strategy": Targeting(nested(5, "a"))}, {"strategy": Targeting(nested(5, "b"))}),
    "what is five deep in mappings": (
        {"strategy": Targeting(nested(5, "a", lambda each: {"in": each}))},
        {"strategy": Targeting(nested(5, "b", lambda each: {"in": each}))},
    ),
    "a fraction and its text": ({"strategy": Targeting([0.5])}, {"strategy": Targeting(["0.5"])}),
    "infinity": ({"strategy": Targeting([math.inf])}, {"strategy": Targeting([-math.inf])}),
    "its types": ({"strategy": Targeting(["1"])}, {"strategy": Targeting([1])}),
    "its default": ({"strategy": Targeting([])}, {"strategy": Targeting([], seed=2)}),
    "what is inside it": ({"strategy": Targeting(Rule("a"))}, {"strategy": Targeting(Rule("a", timedelta(2)))}),
    "a member of an enumeration": ({"strategy": Targeting(Colour.RED)}, {"strategy": Targeting(Colour.BLUE)}),
    "an argument of a partial": (
        {"strategy": Targeting(functools.partial(plain, 1))},
        {"strategy": Targeting(functools.partial(plain, 2))},
    ),
}


@pytest.mark.parametrize("what", OTHER)
def test_another_configuration_has_another_fingerprint(what):
    one, other = OTHER[what]
    assert fingerprint(**one) != fingerprint(**other)


names = st.sampled_from(["a", "b", "c"])
configurations = st.fixed_dictionaries(
    {
        "version": st.sampled_from(["", "1", "2"]),
        "key": st.sampled_from([None, b"one", b"two"]),
        "unit": st.sampled_from(["user", "session", ("user", "session")]),
        "missing_unit": st.sampled_from(["control", "random", "raise"]),
        "holdout": st.sampled_from([0.0, 0.1, 0.25]),
        "control_name": st.sampled_from(["control", "legacy"]),
        "layer": st.none() | st.tuples(st.sampled_from("lm"), st.sampled_from([0.5, 1.0])),
        "shares": st.dictionaries(names, st.sampled_from([0.05, 0.1, 0.3]), min_size=1),
        "shadow": st.sampled_from([0.0, 0.5]),
    }
)


def of(configuration, *, backwards=False, text=False):
    """The fingerprint of a configuration, which can be said in several ways."""
    said = dict(configuration)
    shares, shadow = list(said.pop("shares").items()), said.pop("shadow")
    shares = dict(reversed(shares)) if backwards else dict(shares)
    if text:
        shares = {name: f"{share:.0%}" for name, share in shares.items()}
    layer = None if said["layer"] is None else Layer(said["layer"][0], 0, said["layer"][1])
    return fingerprint(ABTest(shares, shadow=shadow), candidates=tuple(shares), **{**said, "layer": layer})


@settings(max_examples=60, deadline=None)
@given(configurations, configurations, st.booleans(), st.booleans())
def test_two_fingerprints_are_equal_where_the_configurations_are_and_nowhere_else(one, other, backwards, text):
    assert of(one) == of(one, backwards=backwards, text=text)
    assert (of(one) == of(other)) == (one == other)


@settings(max_examples=60, deadline=None)
@given(configurations, st.data())
def test_any_one_difference_makes_another_fingerprint(one, data):
    part = data.draw(st.sampled_from(sorted(one)))
    other = data.draw(configurations.map(lambda each: {**one, part: each[part]}).filter(lambda each: each != one))
    assert of(one) != of(other)


def test_the_value_itself_is_a_promise(tmp_path):
    """A store holds it: with another one, every rollout would begin again when the SDK is updated."""
    found = [fingerprint(version="1", key=b"key")]
    held = {"places": {"de", "fr"}, "weight": 0.25, "most": math.inf, "rule": Rule("a"), "deep": nested(9, "a")}
    for number, strategy in enumerate([Canary(["5%"]), Interleave(k=5, key=str), Targeting(held, seed=Colour.RED)]):
        runtime = Runtime(store=f"sqlite:///{tmp_path}/{number}.db")
        found.append(fingerprint(strategy, runtime=runtime))
        runtime.close(1.0)
    assert VALUES == tuple(found)


VALUES = ("cdbc450e", "7539f5c4", "bfc12c5f", "2e718e17")

PROGRAM = """
    import random
    from rollout_sdk import ABTest, Decision, Interleave, Layer, Runtime, rollout

    class Targeting:
        name = "targeting"
        def __init__(self, places, rule):
            self.places, self.rule, self.cache = places, rule, object()
        def rollout_route(self, request):
            return Decision(request.control)

    draw = random.Random(SEED)
    def one():
        places = {f"place {draw.randrange(99)}" for _ in range(5)}
        return draw.choice([
            ABTest(draw.random()), Interleave(k=draw.randrange(1, 9), key=lambda item: item),
            Targeting(places, {"rule": frozenset(places), 1: [lambda: 0, object(), Targeting]}),
        ])
    for number in range(100):
        model = rollout(
            candidate=lambda user: 1, strategy=one(), unit=lambda user: user, key=f"r{number}", holdout=draw.random(),
            layer=Layer(f"l{number}", 0, draw.uniform(0.1, 1)), version=str(draw.random()),
            runtime=Runtime(key=draw.randbytes(8)),
        )(lambda user: 0)
        print(model.rollout.status().fingerprint)
"""


@pytest.mark.parametrize("seed", [1, 2])
def test_all_processes_have_the_same_fingerprints_whatever_their_hash_seeds_addresses_and_folders(run_python, seed):
    program = PROGRAM.replace("SEED", str(seed))
    results = [run_python(program, timeout=120, PYTHONHASHSEED=hash_seed) for hash_seed in ("0", "1")]
    assert ["", ""] == [result.stderr for result in results]
    one, other = (result.stdout.split() for result in results)
    assert (100, one) == (len(set(one)), other)


def test_a_strategy_says_which_arguments_leave_calls_comparable():
    class Tuned(Targeting):
        not_fingerprinted = ("seed",)

    assert fingerprint(Tuned(["de"], seed=1)) == fingerprint(Tuned(["de"], seed=2)) != fingerprint(Tuned(["fr"], seed=2))


# Where it stands --------------------------------------------------------------------------------------------------------


def test_a_step_changes_the_phase_and_not_the_fingerprint(runtime):
    model = decorated(Canary(["5%", "50%"], guardrails=[]), runtime=runtime)
    before = model.rollout.status()
    model.rollout.promote()
    moved = model.rollout.status()
    model.rollout.set_share("70%")
    again = model.rollout.status()
    assert ["0:5%", "1:50%", "2:70%"] == [status.phase for status in (before, moved, again)]
    assert 1 == len({status.fingerprint for status in (before, moved, again)})


def test_ids_events_and_phases_carry_it(watch, tmp_path):
    runtime = watch(key=b"key", journal=tmp_path)
    model = decorated(version="7", runtime=runtime)
    expected = model.rollout.status().fingerprint
    routed = model.rollout.route("u-1", "s-1")
    model.rollout.record("click", 1.0, decision_id=routed.decision.id)
    assert expected == routed.decision.fingerprint == decode_id(routed.decision.id, b"key").fingerprint
    assert expected == model.rollout.phase.fingerprint
    call, outcome = runtime.events()
    assert (expected, expected) == (call.decision.fingerprint, outcome.fingerprint)
    lines = [json.loads(line) for path in tmp_path.glob("*.jsonl") for line in path.read_text().splitlines()]
    about, *facts = (line for line in lines if line["event"] != "journal")
    assert ("7", expected, "user", 0.0) == (
        about["version"], about["fingerprint"], about["made_of"]["unit"], about["made_of"]["holdout"],
    )  # fmt: skip
    assert [("decision", expected), ("outcome", expected)] == [(each["event"], each["fingerprint"]) for each in facts]


def test_the_journal_tells_neither_the_key_nor_the_arguments_of_a_strategy(tmp_path):
    runtime = Runtime(key=b"a secret key", journal=tmp_path)
    decorated(Targeting("a secret argument"), runtime=runtime)("u-1", "s-1")
    runtime.close()
    (path,) = tmp_path.glob("*.jsonl")
    assert ("made_of" in path.read_text(), "secret" in path.read_text()) == (True, False)


def test_the_status_names_the_version(runtime):
    assert "version 7" in str(decorated(version="7", runtime=runtime).rollout.status())


def test_decorated_anew_with_other_arguments_of_a_strategy_it_begins_again(runtime):
    """Also where its text is the same: that of an object is its class and an address."""
    assert repr(Targeting("de")).partition(" at ")[0] == repr(Targeting("fr")).partition(" at ")[0]
    phases = []
    for country in ("de", "fr"):
        model = decorated(Targeting(country), runtime=runtime)
        phases.append(model.rollout.status().phase)
        # As when a module is imported anew: the key is free again.
        del model
    assert ["0:whole", "1:whole"] == phases
