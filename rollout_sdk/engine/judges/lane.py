"""The lane in which a judge works: bounded in threads, waiting pairs, time and money.

Neither callers nor shadows wait for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from attrs import frozen

from rollout_sdk.concurrency.clocks import monotonic
from rollout_sdk.concurrency.forking import fresh_random, renew_after_fork
from rollout_sdk.concurrency.threads import Flag, Lock, Thread, caller_sleep, native_sleep
from rollout_sdk.engine.judges.calling import Calls
from rollout_sdk.engine.judges.judge import Judge, as_preference, cost_of
from rollout_sdk.engine.judges.shared_spending import SharedSpending
from rollout_sdk.engine.judges.spending import Spending
from rollout_sdk.formatting import class_name
from rollout_sdk.records.sampling import lot_of

__all__ = ["JUDGE", "JudgeLane", "Judged", "Pair", "is_candidate_first", "is_sampled"]

JUDGE = "shadow.judge"
"""Name of the judge's faults."""

_RETRY_AFTER_S = 0.2


def is_sampled(decision_id: str, sample: float) -> bool:
    """Whether the pairs of a decision are judged: drawn by its id."""
    return lot_of(decision_id, "judge") < sample


def is_candidate_first(decision_id: str) -> bool:
    """Whether a judge, or a person, sees the candidate's answer first: drawn by the decision's id."""
    return lot_of(decision_id, "order") < 0.5


@frozen(eq=False)
class Judged:
    """How the judgement of a pair ended.

    Attributes:
        end: "ok", "error" (it raised), "timeout", "nonsense" (what it said is not a preference), "full" (too many pairs
            waited), or "closed".
        preference: Preference for the candidate, from -1 to 1; None without one.
        duration_s: Seconds of all attempts.
        tries: Attempts.
        cost: What the judge says that it cost, or else what was reserved; None if that is unknown.
        error: Class name of an exception.
    """

    end: str
    preference: float | None = None
    duration_s: float = 0.0
    tries: int = 0
    cost: float | None = None
    error: str | None = None


@frozen(eq=False)
class Pair:
    """Both answers to a call, on their way to the judge.

    Attributes:
        decision_id: Id of the decision.
        request: The call's request, with copies of the arguments.
        control: The control's answer.
        candidate: The candidate's.
        size: Bytes of arguments and answers.
        done: Called once with the result, unless the budget is spent.
    """

    decision_id: str
    request: Any
    control: Any
    candidate: Any
    size: int
    done: Callable[[Judged], None]


class JudgeLane:
    """Judges pairs in threads of its own, which start when they are needed and end when nothing waits."""

    def __init__(
        self,
        judge: Judge,
        *,
        failed: Callable[[str, BaseException], None],
        note: Callable[[str], None],
        time_ns: Callable[[], int],
        spending: Callable[[], Spending | SharedSpending] | None = None,
    ) -> None:
        """Create the lane without starting a thread.

        Args:
            judge: The judge.
            failed: Called with every exception of the judge, and with what it says instead of a preference.
            note: Called with what a person should know: that the budget is spent, say.
            time_ns: Wall clock, in nanoseconds since 1970.
            spending: Makes the account of what judgements cost, of several processes; None for one of this process.
        """
        self._account = spending or (lambda: Spending(judge.budget, judge.price))
        self.judge = judge
        self._failed, self._note, self._time_ns = failed, note, time_ns
        self.renew()
        renew_after_fork(self)

    def renew(self) -> None:
        """Start empty in a forked child, with a budget of its own."""
        self._lock = Lock()
        self._waiting: deque[Pair] = deque()
        self._bytes = 0
        self._workers = 0
        self._closing = Flag()
        self.spending = self._account()
        self._calls = Calls(self.judge.function, self.judge.concurrency)

    def submit(self, pair: Pair) -> None:
        """Judge a pair in the background, or end it as not judged; never waits for the judge."""
        starts = False
        with self._lock:
            why = "closed" if self._closing.is_set() else None
            if len(self._waiting) >= self.judge.queue or self._bytes + pair.size > self.judge.max_bytes:
                why = "full"
            if why is None:
                self._waiting.append(pair)
                self._bytes += pair.size
                starts = self._workers < self.judge.concurrency
                self._workers += starts
        if why is not None:
            pair.done(Judged(why))
        if starts:
            try:
                Thread(self._work, "rollout-judge").start()
            except RuntimeError:
                # No thread now: the next pair tries again.
                with self._lock:
                    self._workers -= 1

    def wait(self, timeout_s: float) -> bool:
        """Wait until nothing is left to judge; return False on a timeout."""
        deadline = monotonic() + timeout_s
        while self._workers:
            if monotonic() > deadline:
                return False
            caller_sleep(0.002)
        return True

    def close(self) -> None:
        """Refuse further pairs, and end those that wait."""
        self._closing.set()
        with self._lock:
            left, self._waiting, self._bytes = list(self._waiting), deque(), 0
        for pair in left:
            pair.done(Judged("closed"))
        self._calls.close()

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._workers -= 1
                    return
                pair = self._waiting.popleft()
                self._bytes -= pair.size
            # A fault of the SDK, or a thread that cannot be started, must not end the worker.
            try:
                judged = self._judged(pair)
                if judged is not None:
                    pair.done(judged)
            except BaseException as error:
                self._failed(JUDGE, error)
            del pair

    def _judged(self, pair: Pair) -> Judged | None:
        """Judge a pair, if necessary with further attempts; None if the budget is spent."""
        is_first = is_candidate_first(pair.decision_id)
        answers = (pair.candidate, pair.control) if is_first else (pair.control, pair.candidate)
        begun, judged = monotonic(), Judged("closed")
        total: float | None = None
        for tries in range(1, self.judge.retries + 2):
            reserved = self._reserve()
            if reserved is None:
                return judged if tries > 1 else None
            ended = self._calls((pair.request, *answers), self.judge.timeout_s)
            judged, cost = self._read(ended, is_first)
            is_unknown = cost is None and not reserved and self.judge.budget is not None
            if is_unknown:
                # Before it is settled: until then, no other judgement starts.
                self._note_unknown_cost(judged.end)
            self.spending.settle(reserved, cost)
            paid = cost if cost is not None else reserved or None
            total = total if paid is None else paid + (total or 0.0)
            judged = Judged(judged.end, judged.preference, monotonic() - begun, tries, total, judged.error)
            if is_unknown or judged.end not in ("error", "timeout"):
                break
            if tries <= self.judge.retries:
                self._closing.wait(_RETRY_AFTER_S * tries, inside=True)
        return judged

    def _reserve(self) -> float | None:
        """Reserve money for an attempt; None if there is none, or the lane is closed."""
        while not self._closing.is_set():
            reserved = self.spending.reserve(self._time_ns() / 1e9)
            if reserved == "spent":
                budget = self.judge.budget
                assert budget is not None
                self._note(
                    f"The judge {self.judge.name!r} has spent its budget of {budget.amount:g} {budget.currency} per "
                    f"{budget.per} {self.spending.scope}, or a judgement costs more: no pair is judged until the "
                    "next period. Raise budget=, or lower sample=."
                )
                return None
            if reserved != "wait":
                return reserved
            # Not all processes at once: two that reserve at the same moment both have to try again.
            native_sleep(self.spending.poll_s * (0.5 + fresh_random()))
        return None

    def _read(self, ended: Any, is_first: bool) -> tuple[Judged, float | None]:  # noqa: FBT001 - private
        """Return how a call ended, and what it cost."""
        if not ended.in_time:
            seconds = f"{self.judge.timeout_s:g} s"
            self._failed(JUDGE, TimeoutError(f"The judge {self.judge.name!r} has not answered for {seconds}."))
            return Judged("timeout", error="TimeoutError"), None
        if ended.error is not None:
            self._failed(JUDGE, ended.error)
            return Judged("error", error=class_name(ended.error)), None
        # Nonsense has been paid for, too.
        cost = cost_of(ended.value)
        try:
            preference, _ = as_preference(ended.value)
        except ValueError as error:
            self._failed(JUDGE, error)
            return Judged("nonsense", error="ValueError"), cost
        return Judged("ok", preference if is_first else 0.0 - preference), cost

    def _note_unknown_cost(self, end: str) -> None:
        self.spending.exhaust()
        how = "" if end == "ok" else f" (it ended as {end!r})"
        self._note(
            f"The judge {self.judge.name!r} has a budget, but the cost of a judgement is unknown{how}: it pauses until the "
            "next period. Pass price= to Judge, or return Judgement('a', cost=...) from every judgement."
        )
