"""Mistakes are refused when decorating, with what is wrong, the rule, and the cure."""

import functools
import math

import pytest

from rollout_sdk import (
    ABTest,
    Canary,
    ConfigurationError,
    Interleave,
    Layer,
    Phase,
    PluginError,
    RolloutError,
    Runtime,
    Shadow,
    SignatureError,
    UnknownStrategyError,
    rollout,
)


def score(user, query="q"):
    return 1


def better(user, query="q"):
    return 2


def decorate(function=score, **options):
    if "candidates" not in options:
        options.setdefault("candidate", better)
    return rollout(**{"strategy": ABTest(0.5), "key": "score", "runtime": Runtime(), **options})(function)


def refusal(exception, function=score, **options):
    with pytest.raises(exception) as caught:
        decorate(function, **options)
    assert type(caught.value) is exception
    assert isinstance(caught.value, RolloutError)
    assert len(str(caught.value)) < 1_000
    return str(caught.value)


# Strategies and shares --------------------------------------------------------------------------------------------------


def test_an_unknown_strategy_is_refused_with_those_that_are_installed():
    message = refusal(UnknownStrategyError, strategy="cannary")
    assert message.startswith("Plugin 'cannary' is not installed. A name must be an entry point of group 'rollout_sdk'.")
    installed = message.rpartition(": ")[2].rstrip(".").split(", ")
    assert {"ab", "canary", "interleave", "shadow"} <= set(installed)


def test_an_unknown_strategy_is_a_lookup_error_and_a_value_error():
    with pytest.raises(LookupError):
        decorate(strategy="cannary")
    with pytest.raises(ValueError, match="cannary"):
        decorate(strategy="cannary")


@pytest.mark.parametrize("strategy", [None, 7, object(), ["ab"], lambda request: None, ABTest(0.5).rollout_route])
def test_what_has_no_rollout_route_is_no_strategy(strategy):
    message = refusal(PluginError, strategy=strategy)
    assert "is not a strategy: it has no rollout_route. A strategy turns a request into a decision. Pass an instance" in message


def test_a_strategy_class_that_needs_arguments_is_refused():
    class Picky:
        def __init__(self, share):
            self.share = share

        def rollout_route(self, request):
            return None

    message = refusal(PluginError, strategy=Picky)
    assert message.startswith("Plugin 'Picky' cannot be built: TypeError:")
    assert message.endswith("A class is called without arguments. Pass an instance.")


@pytest.mark.parametrize(
    ("share", "problem"),
    [
        (1.5, "The share of 'candidate' in ABTest is 1.5"),
        (-0.1, "The share of 'candidate' in ABTest is -0.1"),
        ("150%", "The share of 'candidate' in ABTest is '150%'"),
        (math.nan, "The share of 'candidate' in ABTest is nan"),
        (True, "The share of 'candidate' in ABTest is True"),
        ("half", "The share of 'candidate' in ABTest is 'half'"),
        (None, "The share of 'candidate' in ABTest is None"),
        (
            50,
            "The share of 'candidate' in ABTest is 50. A share lies between 0 (no units) and 1 (all units). Did you mean '50%'",
        ),
    ],
)
def test_a_share_that_is_none_is_refused(share, problem):
    message = refusal(ConfigurationError, strategy=ABTest(share))
    assert message.startswith(problem)
    assert "A share " in message


def test_shares_over_everybody_are_refused():
    message = refusal(ConfigurationError, candidates={"v2": better, "v3": better}, strategy=ABTest({"v2": 0.6, "v3": "50%"}))
    assert "add up to 110.0000% (v2 60.0000%, v3 50.0000%). Together, candidates can have at most 100 %. Lower one" in message


@pytest.mark.parametrize(
    ("shares", "problem"),
    [
        (
            0.5,
            "ABTest has one share, 0.5, for 2 candidates: v2, v3. Each candidate needs its own. Write {'v2': ..., 'v3': ...}.",
        ),
        ({"v2": 0.5}, "ABTest gives no share to 'v3'."),
        ({"v2": 0.5, "v3": 0.1, "v4": 0.1}, "ABTest gives a share to 'v4', which is not a candidate."),
        ({"v2": 0.5, "v3": -0.1}, "The share of 'v3' in ABTest is -0.1."),
    ],
)
def test_every_candidate_needs_one_share(shares, problem):
    assert refusal(ConfigurationError, candidates={"v2": better, "v3": better}, strategy=ABTest(shares)).startswith(problem)


@pytest.mark.parametrize(
    ("steps", "problem"),
    [
        ([], "Canary has no steps."),
        (["10%", "5%"], "Canary goes from 10% back to 5% for 'candidate'. Steps must not shrink."),
        (["10%", "10%"], "Canary has the step 10% twice in a row."),
        (["5%", "110%"], "The share of a Step is '110%'."),
        (["5%", None], "The share of a Step is None."),
        ([{"v2": 0.1}], "step 1 of Canary gives a share to 'v2', which is not a candidate."),
    ],
)
def test_the_steps_of_a_canary_must_grow(steps, problem):
    with pytest.raises(ConfigurationError) as caught:
        decorate(score, strategy=Canary(steps))
    assert str(caught.value).startswith(problem)


@pytest.mark.parametrize("steps", ["10%", 0.1, {"v2": 0.1}, None, 5], ids=repr)
def test_the_steps_of_a_canary_are_a_list(steps):
    with pytest.raises(
        ConfigurationError, match=r"^The steps of Canary are .* A canary has a list of shares. Write Canary\(\["
    ):
        Canary(steps)


@pytest.mark.parametrize(
    ("build", "problem"),
    [
        (lambda: Shadow(rate=1.5), "The rate of Shadow is 1.5."),
        (lambda: Shadow("often"), "The rate of Shadow is 'often'."),
        (lambda: Canary(["5%"], shadow=-1), "The shadow share of Canary is -1."),
        (lambda: ABTest(0.5, shadow=True), "The shadow share of ABTest is True."),
        (lambda: Interleave(share=2.5), "The share of Interleave is 2.5."),
        (lambda: Interleave(k=0), "k of Interleave is 0."),
        (lambda: Interleave(k=True), "k of Interleave is True."),
        (lambda: Interleave(k="ten"), "k of Interleave is 'ten'."),
        (lambda: Interleave(key="id"), "key of Interleave is 'id'. It is a function."),
        (lambda: Interleave(rebuild=7), "rebuild of Interleave is 7. It is a function."),
        (lambda: Interleave(items=len), "Interleave has items= without rebuild=."),
        (lambda: Interleave("team draft"), "'team draft' is not an interleaving design: it has no merge()."),
    ],
)
def test_a_strategys_own_settings_are_checked_when_it_is_made(build, problem):
    with pytest.raises(ConfigurationError) as caught:
        build()
    assert str(caught.value).startswith(problem)


# Candidates -------------------------------------------------------------------------------------------------------------


async def coroutine(user, query="q"):
    return 1


def generator(user, query="q"):
    yield 1


async def async_generator(user, query="q"):
    yield 1


KINDS = {
    "a plain function": score,
    "a coroutine function": coroutine,
    "a generator function": generator,
    "an async generator function": async_generator,
}


@pytest.mark.parametrize(("control", "candidate"), [(one, other) for one in KINDS for other in KINDS if one != other])
def test_variants_of_different_kinds_are_refused(control, candidate):
    message = refusal(SignatureError, KINDS[control], candidates={"v2": KINDS[candidate]}, strategy=ABTest(0.5))
    assert message == (
        f"Candidate 'v2' of 'score' is {candidate}, but 'score' is {control}. "
        f"All variants of a rollout must be of one kind. Make 'v2' {control} or wrap it."
    )


def test_kinds_are_seen_through_partials_methods_and_callable_objects():
    class Model:
        async def method(self, user, query="q"):
            return 1

        def __call__(self, user, query="q"):
            yield 1

    for candidate in (functools.partial(coroutine, query="x"), Model().method, Model()):
        assert "All variants of a rollout must be of one kind" in refusal(SignatureError, candidate=candidate)


@pytest.mark.parametrize("candidate", [7, "better", None, [better]], ids=["number", "text", "none", "list"])
def test_a_candidate_that_cannot_be_called_is_refused(candidate):
    message = refusal(SignatureError, candidates={"v2": candidate})
    assert message.startswith(
        f"Candidate 'v2' of 'score' is {candidate!r:.60}, which cannot be called. A candidate is a function"
    )


def test_a_signature_error_is_a_type_error():
    with pytest.raises(TypeError):
        decorate(candidate=7)


def controls():
    def one(a): ...
    def two(a, b=1): ...
    def only_positional(a, /): ...
    def optional_positional(a=1, /): ...
    def only_keyword(*, a): ...
    def many(*args): ...
    def named(**kwargs): ...

    return locals()


def candidates():  # noqa: C901 - a table
    def a(a): ...
    def b_and_a(b, a): ...
    def b(b): ...
    def a_b(a, b): ...
    def a_opt_b(a, b=1): ...
    def b_a(b, a=1): ...
    def a_c(a, c): ...
    def a_opt_c(a, c=1): ...
    def pos_a(a, /): ...
    def pos_x(x, /): ...
    def opt_pos_x(x=1, /): ...
    def kw_a(*, a): ...
    def kw_opt_a(*, a=1): ...
    def a_args(a, *args): ...
    def args(*args): ...
    def kwargs(**kwargs): ...
    def anything(*args, **kwargs): ...
    def a_kwargs(a, **kwargs): ...

    return locals()


FITTING = {
    "one": {"a", "a_opt_b", "a_opt_c", "a_args", "anything", "a_kwargs"},
    "two": {"a_opt_b", "anything"},
    "only_positional": {
        "a",
        "b",
        "a_opt_b",
        "b_a",
        "a_opt_c",
        "pos_a",
        "pos_x",
        "opt_pos_x",
        "a_args",
        "args",
        "anything",
        "a_kwargs",
    },
    "optional_positional": {"opt_pos_x", "args", "anything"},
    "only_keyword": {"a", "a_opt_b", "a_opt_c", "kw_a", "kw_opt_a", "a_args", "kwargs", "anything", "a_kwargs"},
    "many": {"args", "anything"},
    "named": {"kwargs", "anything"},
}


@pytest.mark.parametrize(("control", "candidate"), [(one, other) for one in FITTING for other in candidates()])
def test_a_candidate_is_taken_only_when_every_call_of_the_control_is_possible_for_it(control, candidate):
    options = {"candidates": {"v2": candidates()[candidate]}, "key": f"{control}.{candidate}"}
    if candidate in FITTING[control]:
        assert decorate(controls()[control], **options).rollout.candidates == ("v2",)
    else:
        message = refusal(SignatureError, controls()[control], **options)
        assert message.startswith(f"Candidate 'v2' of '{control}.{candidate}' cannot be called as the control is: it ")
        assert message.endswith("Give it the control's parameters, or *args and **kwargs.")


# Names ------------------------------------------------------------------------------------------------------------------


def test_no_candidate_is_refused():
    with pytest.raises(ConfigurationError, match=r"rollout got neither candidate= nor candidates=. .* Pass one of the two."):
        rollout(strategy=ABTest(0.5))


def test_a_candidate_and_candidates_are_refused():
    with pytest.raises(ConfigurationError, match="rollout got candidate= and candidates="):
        rollout(candidate=better, candidates={"v2": better}, strategy=ABTest(0.5))


def test_an_empty_mapping_of_candidates_is_refused():
    assert refusal(ConfigurationError, candidates={}).startswith(
        "'score' has no candidate. A rollout compares the control with"
    )


@pytest.mark.parametrize("given", [[better], better, "v2", 7], ids=["list", "function", "text", "number"])
def test_candidates_that_have_no_names_are_refused(given):
    with pytest.raises(ConfigurationError, match=r"candidates=.* is not a mapping. .* Write candidates=\{'v2': f\}"):
        rollout(candidates=given, strategy=ABTest(0.5))


@pytest.mark.parametrize("name", ["control", "interleaved"])
def test_a_reserved_name_is_refused(name):
    message = refusal(ConfigurationError, candidates={name: better})
    assert f"is named {name!r}" in message
    assert "Choose another name" in message


def test_the_control_cannot_be_named_as_blended_answers_are():
    assert "is named 'interleaved'" in refusal(ConfigurationError, control_name="interleaved")


def test_the_controls_new_name_is_reserved_instead_of_the_old():
    assert "so is the control" in refusal(ConfigurationError, control_name="v2", candidates={"v2": better})
    assert decorate(control_name="legacy", candidates={"control": better}).rollout.candidates == ("control",)


@pytest.mark.parametrize("name", ["", " \n", "a\x1fb", "\ud800", "x" * 201, None, 7, b"v2"], ids=repr)
@pytest.mark.parametrize("option", ["key", "control_name", "candidates"])
def test_names_are_printable_text(option, name):
    value = {name: better} if option == "candidates" else name
    if option == "key" and name is None:
        assert decorate(key=None).rollout.key == f"{__name__}.score"
    else:
        assert "Names are printable text of 1 to 200 characters. Choose another." in refusal(
            ConfigurationError, **{option: value}
        )


# The other options ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "problem", "cure"),
    [
        ({"on_error": "ignore"}, "on_error='ignore' of 'score' is unknown", "It must be one of: control, raise."),
        (
            {"isolate": "copy"},
            "isolate='copy' of 'score' is unknown",
            "It must be 'auto', 'none', 'deepcopy' or a copying function.",
        ),
        ({"passthrough": [KeyError]}, "of 'score' is not a tuple of exception classes", "Write passthrough=(KeyError,)."),
        ({"passthrough": KeyError}, "of 'score' is not a tuple of exception classes", "Write passthrough=(KeyError,)."),
        ({"passthrough": (KeyError("x"),)}, "of 'score' is not a tuple of exception classes", "Write passthrough=(KeyError,)."),
        ({"plugins": "audit"}, "plugins='audit' of 'score' is not a list", "Write plugins=[...]."),
        ({"plugins": 7}, "plugins=7 of 'score' is not a list", "Write plugins=[...]."),
        ({"plugins": ["nobody"]}, "Plugin 'nobody' is not installed.", "Installed and not blocked: "),
        ({"plugins": [object()]}, "Plugin 'object' has no hook.", "The hooks are: rollout_arguments"),
        ({"runtime": "mine"}, "runtime='mine' is not a Runtime", "Pass Runtime(...)"),
        ({"layer": Layer("")}, "The name of the layer of 'score' is ''", "Choose another."),
        ({"batch": "rows"}, "batch='rows' names no parameter of 'score'", "Its parameters are: user, query."),
        ({"batch": ()}, "batch=() of 'score' names no parameters", "Write batch='texts'."),
        ({"batch": (7,)}, "batch=(7,) of 'score' names no parameters", "Write batch='texts'."),
        ({"batch": 7}, "batch=7 of 'score' names no parameters", "Write batch='texts'."),
        (
            {"batch": "user", "override": lambda user, query="q": None},
            "override= of 'score' is a callable, and batch= is set",
            "Pass override= as a mapping",
        ),
        ({"batch": "user", "strategy": Interleave()}, "batch= of 'score' does not work with interleaving", "Leave batch= out."),
    ],
)
def test_an_option_that_cannot_work_is_refused(options, problem, cure):
    with pytest.raises(ConfigurationError) as caught:
        decorate(**options)
    assert problem in str(caught.value)
    assert cure in str(caught.value)


@pytest.mark.parametrize("stream", [generator, async_generator])
def test_a_batch_of_streams_is_refused(stream):
    message = refusal(ConfigurationError, stream, candidate=stream, batch="user")
    assert message.startswith("batch=('user',) of 'score' does not work with a stream.")


def test_a_batch_of_many_arguments_is_refused():
    def model(*texts):
        return texts

    message = refusal(ConfigurationError, model, candidate=lambda *texts: texts, batch="texts")
    assert message.startswith("batch='texts' of 'score' names *texts, which holds many arguments. It must name one.")


def test_slots_that_overlap_are_refused(runtime):
    first = decorate(key="first", layer=Layer("checkout", 0, "60%"), runtime=runtime)
    message = refusal(ConfigurationError, layer=Layer("checkout", "50%", 1), runtime=runtime)
    assert message == (
        "'score' takes 50.00% to 100.00% of layer 'checkout', and 'first' takes 0.00% to 60.00%. "
        "Rollouts of a layer exclude each other. Give them slots that do not overlap."
    )
    assert first("u-1") in {1, 2}


@pytest.mark.parametrize("thing", [7, "score", None, property(score)], ids=["number", "text", "none", "property"])
def test_what_cannot_be_called_cannot_be_decorated(thing):
    assert "cannot be decorated: it is not callable. A rollout needs a function." in refusal(ConfigurationError, thing)


def test_a_function_is_decorated_once():
    once = decorate()
    message = refusal(ConfigurationError, once, key="again")
    assert message == "'score' is decorated twice. A function is the control of one rollout. Pass all candidates to one."


def test_a_function_that_wraps_a_decorated_one_is_another_and_can_be_decorated():
    once = decorate()

    @functools.wraps(once)
    def wrapper(user, query="q"):
        return once(user, query)

    again = decorate(wrapper, key="again")
    assert ("again", "score") == (again.rollout.key.rpartition(".")[2], once.rollout.key.rpartition(".")[2])
    assert again("u-1") in {1, 2}


# Plans of custom strategies ---------------------------------------------------------------------------------------------


class Planned:
    name = "planned"

    def __init__(self, plan):
        self.plan = plan

    def rollout_phases(self, control, candidates):
        return self.plan() if callable(self.plan) else self.plan

    def rollout_route(self, request):
        return request.phase.split.decide(request.point)


def failing():
    raise ZeroDivisionError("no plan")


@pytest.mark.parametrize(
    ("plan", "problem"),
    [
        ([], "gave () as its phases"),
        (["5%"], "gave ('5%',) as its phases"),
        (7, "failed to plan its phases: TypeError"),
        (failing, "failed to plan its phases: ZeroDivisionError: no plan"),
        ([Phase("p", {"candidate": 0.1}, "legacy")], "as a phase for 'control' and candidate"),
        ([Phase("p", {"v9": 0.1})], "as a phase for 'control' and candidate"),
        ([Phase("p", {"candidate": 0.1}), Phase("q", {})], "as a phase for 'control' and candidate"),
    ],
)
def test_a_plan_that_cannot_be_carried_out_is_refused(plan, problem):
    message = refusal(PluginError, strategy=Planned(plan))
    assert message.startswith("Strategy 'planned' of 'score' ")
    assert problem in message
    assert message.endswith("Fix the strategy.")


def test_a_plan_whose_phase_has_no_printable_name_is_refused():
    message = refusal(ConfigurationError, strategy=Planned([Phase("a\x1fb", {"candidate": 0.1})]))
    assert message.startswith("The name of a phase of 'score' is 'a\\x1fb'.")


def test_a_strategys_own_refusal_reaches_the_caller():
    def refuse():
        raise ConfigurationError("not on Fridays")

    assert refusal(ConfigurationError, strategy=Planned(refuse)) == "not on Fridays"


def test_a_plan_may_be_left_out():
    assert decorate(strategy=Planned(None)).rollout.phase == Phase("0:whole", {})
