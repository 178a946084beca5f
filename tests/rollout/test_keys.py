"""A key names one rollout: the same again goes on where it is, another is refused, a new version begins again."""

import copy
import gc
import importlib
import pickle
import sys
import textwrap

import pytest

from rollout_sdk import ABTest, Canary, ConfigurationError, DuplicateKeyError, Interleave, Runtime, Shadow, StateError, rollout


def score(user):
    return 1


def better(user):
    return 2


def other_better(user):
    return 3


@rollout(candidate=better, strategy=ABTest(0.5), unit="user", runtime=Runtime())
def pickled(user):
    return 1


@pytest.fixture
def decorate(runtime):
    def make(function=score, **options):
        options = {"candidate": better, "strategy": ABTest(0.5), "unit": "user", "key": "score", "runtime": runtime, **options}
        return rollout(**options)(function)

    return make


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes a module and imports it, or imports it anew."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    made = []

    def write(strategy, *, name="ranker", candidate="v2", key="ranker.rank"):
        (tmp_path / f"{name}.py").write_text(
            textwrap.dedent(f"""
            from rollout_sdk import *

            def v2(user):
                return 2

            def v3(user):
                return 3

            @rollout(candidates={{{candidate!r}: {candidate}}}, strategy={strategy}, unit="user", key={key!r}, runtime=runtime)
            def rank(user):
                return 1
            """).replace("from rollout_sdk import *", "from rollout_sdk import *\nfrom shared_runtime import runtime")
        )
        importlib.invalidate_caches()
        made.append(name)
        return importlib.reload(sys.modules[name]) if name in sys.modules else importlib.import_module(name)

    (tmp_path / "shared_runtime.py").write_text("from rollout_sdk import Runtime\nruntime = Runtime()\n")
    yield write
    for name in (*made, "shared_runtime"):
        sys.modules.pop(name, None)


# Another rollout --------------------------------------------------------------------------------------------------------

OTHERS = {
    "strategy": {"strategy": ABTest(0.4)},
    "candidates": {"candidate": other_better},
    "control_name": {"control_name": "legacy"},
    "unit": {"unit": None},
    "missing_unit": {"missing_unit": "raise"},
    "override": {"override": {"u-1": "candidate"}},
    "holdout": {"holdout": 0.1},
    "on_error": {"on_error": "raise"},
    "passthrough": {"passthrough": (KeyError,)},
    "isolate": {"isolate": "none"},
    "function": {"function": other_better},
}


@pytest.mark.parametrize("option", OTHERS)
def test_a_key_in_use_is_refused_to_a_rollout_with_other_settings(decorate, option):
    first = decorate()
    with pytest.raises(DuplicateKeyError) as caught:
        decorate(**OTHERS[option])
    assert str(caught.value) == (
        f"Key 'score' is taken by a rollout with another {option}. "
        "A key names one rollout in every record of a runtime. Give this one a key= of its own."
    )
    assert first.rollout.phase.shares == {"candidate": 0.5}


def test_the_error_names_every_setting_that_differs(decorate):
    first = decorate()
    with pytest.raises(DuplicateKeyError, match="with another strategy and another holdout"):
        decorate(strategy=ABTest(0.1), holdout=0.1)
    assert first("u") in {1, 2}


def test_two_functions_with_the_same_settings_are_two_rollouts(decorate):
    first = decorate()

    def stranger(user):
        return 5

    with pytest.raises(DuplicateKeyError, match="another function"):
        decorate(stranger)
    assert first("u") in {1, 2}


def test_two_lambdas_on_different_lines_are_two_functions(decorate):
    first = decorate(lambda user: 1)
    with pytest.raises(DuplicateKeyError, match="another function"):
        decorate(lambda user: 1)
    assert first("u") in {1, 2}


def test_runtimes_share_no_keys(decorate, watch):
    assert decorate().rollout.key == decorate(strategy=ABTest(0.1), runtime=watch()).rollout.key


def test_a_rollout_that_is_gone_frees_its_key(decorate):
    first = decorate()
    del first
    gc.collect()
    assert decorate(strategy=Canary(["5%"])).rollout.strategy_name == "canary"


def test_a_class_that_waits_for_the_garbage_collector_frees_its_key(runtime):
    def make(strategy):
        class Model:
            @rollout(candidate=lambda self, user: 2, strategy=strategy, effects="read", key="score", runtime=runtime)
            def predict(self, user):
                return 1

        return Model.predict.rollout.key

    gc.disable()
    try:
        assert make(ABTest(0.5)) == make(Canary(["5%"])) == "score"
    finally:
        gc.enable()


def test_a_key_is_in_use_as_long_as_any_of_its_functions_lives(decorate):
    first, second = decorate(), decorate()
    del second
    gc.collect()
    with pytest.raises(DuplicateKeyError, match="another strategy"):
        decorate(strategy=ABTest(0.1))
    assert first("u") in {1, 2}


def test_many_overrides_are_compared_too(decorate):
    many = {f"u-{number}": "candidate" for number in range(1_000)}
    both = [decorate(override=dict(many)) for _ in range(2)]
    with pytest.raises(DuplicateKeyError, match="another override"):
        decorate(override={**many, "u-1": "control"})
    assert len(both) == 2


def test_a_refused_rollout_leaves_the_first_in_charge(decorate, runtime):
    first = decorate()
    with pytest.raises(DuplicateKeyError):
        decorate(strategy=ABTest(0.1))
    assert runtime.rollouts["score"] is first.rollout


# The same again ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "strategy", [lambda: ABTest(0.5), lambda: Canary(["5%"]), lambda: Shadow(0.1), lambda: Interleave(key=lambda item: item)]
)
def test_the_same_settings_again_are_the_same_rollout(decorate, strategy):
    both = [decorate(strategy=strategy(), effects="read", override=lambda user: None, isolate=copy.copy) for _ in range(2)]
    assert len({model.rollout.key for model in both}) == 1


class Model:
    """Decorates its own method, as each of its objects is made."""

    def __init__(self, runtime, share="10%"):
        self.predict = rollout(candidate=better, strategy=Canary([share, "50%"]), unit="user", runtime=runtime)(self._predict)

    def _predict(self, user):
        return 1


def test_a_model_class_may_decorate_in_every_object(runtime):
    one, other = Model(runtime), Model(runtime)
    assert one.predict.rollout.key == other.predict.rollout.key == f"{__name__}.Model._predict"


def test_what_happens_to_one_object_happens_to_all(runtime):
    one, other = Model(runtime), Model(runtime)
    one.predict.rollout.promote()
    assert other.predict.rollout.phase.name == "1:50%"
    other.predict.rollout.abort()
    assert one.predict.rollout.status().status == "aborted"


def test_an_abort_outlives_the_object_that_was_aborted(runtime):
    one, other = Model(runtime), Model(runtime)
    other.predict.rollout.abort()
    del other
    gc.collect()
    again = Model(runtime)
    assert {again.predict.rollout.status().status, one.predict.rollout.status().status} == {"aborted"}


def test_revisions_are_checked_across_objects(runtime):
    one, other = Model(runtime), Model(runtime)
    one.predict.rollout.promote(revision=0)
    with pytest.raises(StateError, match="at revision 1, not 0"):
        other.predict.rollout.promote(revision=0)


def test_objects_with_other_settings_need_a_key_of_their_own(runtime):
    one = Model(runtime, share="10%")
    with pytest.raises(DuplicateKeyError, match="another strategy"):
        Model(runtime, share="20%")
    assert one.predict.rollout.phase.name == "0:10%"


def test_functions_made_by_one_factory_are_one_rollout(runtime):
    def make():
        @rollout(candidate=lambda user: 2, strategy=ABTest(0.5), unit="user", runtime=runtime)
        def model(user):
            return 1

        return model

    both = make(), make()
    assert [model.rollout.key for model in both] == [
        f"{__name__}.test_functions_made_by_one_factory_are_one_rollout.make.model"
    ] * 2


# A module imported anew -------------------------------------------------------------------------------------------------


def test_a_reloaded_module_goes_on_where_it_was(module):
    first = module("Canary(['5%', '50%'])").rank
    first.rollout.promote()
    second = module("Canary(['5%', '50%'])").rank
    assert second is not first
    assert (second.rollout.phase.name, second.rollout.status().revision) == ("1:50%", 1)


def test_what_happens_after_a_reload_happens_to_functions_imported_before_it(module):
    first = module("Canary(['100%'])").rank
    second = module("Canary(['100%'])").rank
    assert (first("u"), second("u")) == (2, 2)
    second.rollout.abort()
    assert (first("u"), second("u")) == (1, 1)


@pytest.mark.parametrize(
    "changed", [{"strategy": "Canary(['2%', '100%'])"}, {"strategy": "ABTest(0.2)"}, {"candidate": "v3"}], ids=str
)
def test_a_module_reloaded_with_other_settings_begins_again_in_a_new_phase(module, changed):
    first = module("Canary(['5%', '50%'])").rank
    first.rollout.promote()
    second = module(**{"strategy": "Canary(['5%', '50%'])", **changed}).rank
    assert second.rollout.phase.name.startswith("2:")
    assert second.rollout.status().revision == 2


def test_functions_of_a_version_that_is_replaced_answer_with_their_control(module):
    first = module("Canary(['100%'])").rank
    second = module("Canary(['100%'])", candidate="v3").rank
    assert (first("u"), second("u")) == (1, 3)
    assert first.rollout.status().status == "aborted"


def test_a_new_version_is_journalled_as_a_start(module, tmp_path):
    from rollout_sdk.recording.sinks import Change

    first = module("Canary(['5%', '50%'])").rank
    runtime = sys.modules["shared_runtime"].runtime
    told = []
    runtime.recorder.put = told.append
    second = module("Canary(['2%'])").rank
    (event,) = [fact.event for fact in told if isinstance(fact, Change)]
    assert (event.action, event.from_phase, event.to_phase, event.shares) == (
        "start",
        "0:5%",
        "1:2%",
        {"control": 0.98, "v2": 0.02},
    )
    assert first("u") == 1
    assert second("u") in {1, 2}


def test_an_abort_stays_when_a_module_is_reloaded_with_other_settings(module):
    module("Canary(['5%'])").rank.rollout.abort()
    second = module("Canary(['100%'])").rank
    assert (second("u"), second.rollout.status().status) == (1, "aborted")
    with pytest.raises(StateError, match="An abort is final"):
        second.rollout.promote()


def test_another_modules_function_may_not_take_the_key(module):
    first = module("Canary(['5%'])").rank
    with pytest.raises(DuplicateKeyError, match="another function"):
        module("Canary(['5%'])", name="stranger")
    assert first("u") == 1


def test_a_file_that_is_a_script_and_a_module_has_one_rollout_with_one_state(tmp_path, run_python):
    (tmp_path / "app.py").write_text(
        """
from rollout_sdk import Canary, rollout


@rollout(candidates={"v2": lambda user: 2}, strategy=Canary(["100%"]), unit="user", key="shop.x")
def x(user):
    return 1


if __name__ == "__main__":
    import app

    app.x.rollout.abort()
    print(x("u"), app.x("u"))
"""
    )
    result = run_python(f"""
        import runpy, sys
        sys.path.insert(0, {str(tmp_path)!r})
        runpy.run_path({str(tmp_path / "app.py")!r}, run_name="__main__")
    """)
    assert ("1 1\n", "") == (result.stdout, result.stderr)


# Copies and names -------------------------------------------------------------------------------------------------------


class Service:
    def __init__(self, model):
        self.model = model
        self.weights = [1, 2]


def test_a_deep_copy_of_an_object_holds_the_same_rollout(decorate):
    service = Service(decorate())
    twin = copy.deepcopy(service)
    assert twin.model.rollout is service.model.rollout
    assert twin.weights is not service.weights


def test_a_deep_copy_of_a_controller_is_the_controller(decorate):
    controller = decorate().rollout
    assert copy.deepcopy({"controller": controller})["controller"] is controller


def test_a_copy_of_a_controller_is_the_controller(decorate):
    controller = decorate().rollout
    assert copy.copy(controller) is controller


def test_a_decorated_function_of_a_module_is_pickled_by_its_name():
    assert pickle.loads(pickle.dumps(pickled)) is pickled


def test_a_method_of_a_pickled_object_is_decorated_still(runtime):
    assert pickle.loads(pickle.dumps(Service(pickled))).model.rollout is pickled.rollout


def test_the_key_is_the_functions_module_and_name(decorate):
    assert decorate(key=None).rollout.key == f"{__name__}.score"


@pytest.mark.parametrize(
    ("function", "key"),
    [(len, "builtins.len"), (str.upper, "builtins.str.upper"), (dict, "builtins.dict")],
)
def test_a_builtin_has_a_key_too(runtime, function, key):
    model = rollout(candidate=lambda *args, **kwargs: 2, strategy=Shadow(0), effects="read", runtime=runtime)(function)
    assert model.rollout.key == key


def test_a_spawned_process_gives_the_main_modules_functions_the_same_key(run_python):
    process = run_python(
        """
        import multiprocessing
        from rollout_sdk import ABTest, rollout

        @rollout(candidate=lambda user: 2, strategy=ABTest(0.5), unit="user")
        def model(user):
            return 1

        def look(_):
            return model.rollout.key, [model(user) for user in range(50)]

        if __name__ == "__main__":
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                there = pool.map(look, [0])[0]
            print(there == look(0), model.rollout.key)
        """
    )
    assert (process.stdout, process.stderr) == ("True __main__.model\n", "")


def test_a_partial_and_a_callable_object_are_named_by_what_they_call(runtime):
    import functools

    class Caller:
        def __call__(self, user):
            return 1

    options = {"candidate": better, "strategy": ABTest(0.5), "runtime": runtime}
    partial, called = rollout(**options)(functools.partial(score)), rollout(**options)(Caller())
    assert (partial.rollout.key, partial.__name__) == (f"{__name__}.score", "score")
    assert called.rollout.key == f"{__name__}.test_a_partial_and_a_callable_object_are_named_by_what_they_call.Caller"


def test_a_rollout_that_is_refused_registers_nothing(runtime):
    with pytest.raises(ConfigurationError):
        rollout(candidate=better, strategy=ABTest(7), key="refused", runtime=runtime)(score)
    assert "refused" not in runtime.rollouts
