"""A judge's budget holds for all processes of a store together."""

import random
import threading

import pytest

from rollout_sdk import Judge, Judgement, Money, Runtime, Shadow, ShadowLimits, StoreError, rollout
from rollout_sdk.control.stores import GuardedStore, MemoryStore
from rollout_sdk.control.stores.opening import store_at
from rollout_sdk.engine.judges.lane import JudgeLane, Pair
from rollout_sdk.engine.judges.shared_spending import SharedSpending

NOW_S = 1e9


@pytest.fixture
def store():
    return GuardedStore(MemoryStore())


@pytest.fixture
def process(store):
    """Makes what stands for several processes: accounts of one store."""
    faults = []

    def make(price=None, budget=Money(10.0), store=store):
        return SharedSpending(
            budget, price, store=store, rollout="chat", timeout_s=20.0, failed=lambda what, error: faults.append(str(error))
        )

    make.faults = faults
    return make


def spent_by(process, *, price, costs, processes=4, threads=2):
    """What judgements of several processes cost together, each process with several threads, until nothing is left."""
    accounts = [process(price=price) for _ in range(processes)]
    paid, adding = [], threading.Lock()

    def work(account, seed):
        draw = random.Random(seed)
        while (reserved := account.reserve(NOW_S)) != "spent":
            if reserved == "wait":
                # As the lane does, only faster.
                threading.Event().wait(0.002 * draw.random())
                continue
            cost = costs(draw)
            account.settle(reserved, cost)
            with adding:
                paid.append(cost)

    running = [
        threading.Thread(target=work, args=(each, 10 * n + m)) for n, each in enumerate(accounts) for m in range(threads)
    ]
    for each in running:
        each.start()
    for each in running:
        each.join(60.0)
    assert process.faults == []
    return paid


def test_priced_judgements_never_exceed_the_budget_and_use_it_up(process):
    paid = spent_by(process, price=0.7, costs=lambda draw: 0.7)
    assert len(paid) == 14


@pytest.mark.parametrize("seed", range(3))
def test_without_a_price_it_is_exceeded_by_one_judgement_at_most(process, seed):
    paid = spent_by(process, price=None, costs=lambda draw: 0.2 + 0.8 * draw.random() + 0 * seed)
    assert 9.0 <= sum(paid) <= 10.0 + 1.0


def test_until_a_cost_is_known_one_judgement_runs_at_a_time_in_all_processes(process):
    one, two = process(), process()
    assert (one.reserve(NOW_S), two.reserve(NOW_S)) == (0.0, "wait")
    one.settle(0.0, 4.0)
    # The other process knows the cost now.
    assert two.reserve(NOW_S) == 4.0


def test_a_new_period_and_a_process_that_comes_later_begin_where_the_others_are(process):
    one = process(price=4.0, budget=Money(8.0, per="hour"))
    for _ in range(2):
        one.settle(one.reserve(NOW_S), 4.0)
    late = process(price=4.0, budget=Money(8.0, per="hour"))
    assert (one.reserve(NOW_S), late.reserve(NOW_S)) == ("spent", "spent")
    assert (late.reserve(NOW_S + 3_600.0), one.reserve(NOW_S + 3_600.0)) == (4.0, 4.0)


def test_a_clock_that_is_behind_spends_nothing_of_a_period_that_has_ended(process):
    ahead, behind = process(price=4.0, budget=Money(8.0, per="hour")), process(price=4.0, budget=Money(8.0, per="hour"))
    ahead.settle(ahead.reserve(NOW_S + 3_600.0), 4.0)
    assert behind.reserve(NOW_S) == 4.0
    assert behind.reserve(NOW_S) == "wait"


def test_what_a_process_had_reserved_when_it_died_is_spent(process):
    dead, alive = process(price=4.0), process(price=4.0)
    dead.settle(dead.reserve(NOW_S), 0.5)
    assert dead.reserve(NOW_S) == 4.0
    assert (alive.reserve(NOW_S + 1.0), alive.reserve(NOW_S + 1.0)) == (4.0, "wait")
    alive.settle(4.0, 4.0)
    assert [alive.reserve(NOW_S + seconds) for seconds in (2.0, 100.0)] == ["wait", "spent"]


def test_while_the_store_does_not_answer_nothing_is_judged(process):
    class Down:
        def __getattr__(self, name):
            raise StoreError("the store is down")

    account = process(price=1.0, store=Down())
    assert (account.reserve(NOW_S), account.poll_s, process.faults) == ("wait", 1.0, ["the store is down"])


def test_the_judges_of_two_runtimes_share_their_budget_and_no_list_shows_it(tmp_path):
    address, called = f"sqlite:///{tmp_path}/rollouts.db", []

    def judge(request, a, b):
        called.append(request)
        return Judgement("tie", cost=1.0)

    runtimes = [
        Runtime(store=address, shadows=ShadowLimits(max_jobs=1000, cpu_share=1.0, max_age_s=60.0, timeout_s=60.0))
        for _ in range(2)
    ]
    for runtime in runtimes:
        options = {"strategy": Shadow(1.0), "effects": "read", "key": "chat", "runtime": runtime}
        model = rollout(candidate=str.upper, judge=Judge(judge, sample=1.0, budget=Money(6.0), price=1.0), **options)(str.lower)
        for number in range(8):
            model(f"text {number}")
    for runtime in runtimes:
        assert runtime.flush(60.0)
        runtime.close()
    assert len(called) == 6
    assert GuardedStore(store_at(address), address).keys() == ["chat"]


def test_of_two_that_reserve_at_the_same_moment_the_later_one_sees_the_other(process, store):
    class Between:
        """A store in which another process reserves between one's look and one's announcement."""

        def __getattr__(self, name):
            return getattr(store, name)

        def publish(self, *args):
            got.append(other.reserve(NOW_S)) if not got else None
            return store.publish(*args)

    got, other = [], process(price=6.0)
    assert (process(price=6.0, store=Between()).reserve(NOW_S), got) == ("wait", [6.0])


def test_a_price_is_tried_by_one_judgement_and_believed_in_all_processes_until_one_costs_more(process):
    one, two = process(price=0.1), process(price=0.1)
    assert (one.reserve(NOW_S), two.reserve(NOW_S)) == (0.1, "wait")
    one.settle(0.1, 0.1)
    assert (two.reserve(NOW_S), one.reserve(NOW_S)) == (0.1, 0.1)
    one.settle(0.1, 3.0)
    two.settle(0.1, 0.1)
    # 3.2 spent: two of 3 would fit as expected, and not if they cost twice that.
    assert (two.reserve(NOW_S), one.reserve(NOW_S)) == (3.0, "wait")


@pytest.mark.parametrize("price", [None, 0.1])
def test_costs_above_the_price_from_the_first_on_exceed_no_budget(process, price):
    paid = spent_by(process, price=price, costs=lambda draw: 3.0, threads=5)
    assert [3.0] * 3 == paid


@pytest.mark.parametrize("judge", ["nonsense", "raises", "hangs"])
def test_what_is_no_preference_counts_in_all_processes(process, judge):
    """Two lanes of one budget, whose judgements really cost 2."""
    called = []

    def function(*_):
        called.append(1)
        if judge == "raises":
            raise ConnectionError
        if judge == "hangs":
            threading.Event().wait(0.05)
        return Judgement("The first one is better.", cost=2.0)

    notes, made = [], Judge(function, budget=Money(10.0), timeout_s=0.02 if judge == "hangs" else 20.0, retries=0)
    lanes = [
        JudgeLane(made, failed=lambda *_: None, note=notes.append, time_ns=lambda: int(NOW_S * 1e9), spending=process)
        for _ in range(2)
    ]
    for number in range(20):
        for lane in lanes:
            lane.submit(Pair(f"d{number}", None, "x", "y", 1, lambda judged: None))
    assert all(lane.wait(30.0) for lane in lanes)
    assert len(called) == (5 if judge == "nonsense" else 1)
    assert judge == "nonsense" or any("the cost of a judgement is unknown" in each for each in notes)
    for lane in lanes:
        lane.close()
