"""The main task on real data: one model in a shadow test, a canary and an A/B test, and two recommenders interleaved.

It ends with a recommendation for each of them, and the reasons.

Run it: make demo. The journal and the store stay in the folder that is printed, for `rollout report` and `make dashboard`,
which also follows the demo while it runs.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter

from movies import Films, clicks, ease, popularity
from reviews import Review, Trained, load, vader
from rollout_sdk import ABTest, Canary, Gate, Guardrail, Interleave, Runtime, Shadow, ShadowLimits, rollout
from rollout_sdk.analysis import headlines, summarise
from rollout_sdk.control.stores import SQLiteStore
from rollout_sdk.page import as_html

STORE = "rollouts.db"
"""The store's file, in the folder of the journal."""

SLOW = Guardrail("latency", threshold_s=0.25)
TESTS = (
    Shadow(rate=0.25, guardrails=[Guardrail("error_rate"), SLOW]),
    Canary(["5%", "20%", "50%"], guardrails=[Guardrail("error_rate"), SLOW], shadow=0.1),
    ABTest(0.5, gates=[Gate("correct", mde=0.02)], guardrails=[Guardrail("error_rate"), SLOW]),
)


BEGAN = perf_counter()


def progress(what: str) -> None:
    """Print the current step, and the time so far."""
    print(f"{perf_counter() - BEGAN:5.1f} s  {what}", flush=True)


def sentiment(reviews: Sequence[Review], candidate: Callable[[str], bool], runtime: Runtime) -> None:
    """Send the reviews as live traffic, a third under each strategy; the outcome is whether the model was right."""

    def legacy(user: str, text: str) -> bool:
        return vader(text)

    def trained(user: str, text: str) -> bool:
        return candidate(text)

    third = len(reviews) // 3
    for number, strategy in enumerate(TESTS):
        progress(f"{third:,} reviews through {type(strategy).__name__}")
        decorate = rollout(
            candidate=trained,
            strategy=strategy,
            effects="read",
            unit="user",
            key=f"reviews.{strategy.name}",
            control_name="vader",
            runtime=runtime,
        )
        model = decorate(legacy)
        traffic = reviews[number * third : (number + 1) * third]
        steps = 3 if isinstance(strategy, Canary) else 1
        for position, review in enumerate(traffic):
            if steps > 1 and position in (third // 3, 2 * third // 3):
                model.rollout.promote(actor="demo", reason="a third of the traffic has passed")
            routed = model.rollout.route(review.user, review.text)
            right = routed.value == review.recommended
            model.rollout.record("correct", float(right), decision_id=routed.decision.id)
        runtime.flush(30.0)


def films(runtime: Runtime, visits: int) -> None:
    """Simulate visits of users who see popularity and EASE in one list, and click the films that they would have liked."""
    data = Films()
    rng = random.Random(11)
    popular, similar = popularity(data), ease(data)

    @rollout(
        candidates={"ease": similar.rank},
        strategy=Interleave(k=10, gates=[Gate("click", mde=0.02)]),
        unit="user",
        key="films.interleave",
        control_name="popularity",
        runtime=runtime,
    )
    def recommend(user: int) -> list[int]:
        return popular.rank(user)

    for _ in range(visits):
        user = rng.choice(data.users)
        routed = recommend.rollout.route(user)
        for film in clicks(routed.value, data.relevant[user], rng):
            recommend.rollout.record("click", 1.0, decision_id=routed.decision.id, item=film)
    runtime.flush(30.0)


def main(folder: str, page: str = "report.html", *, served: int | None = None, visits: int = 3000) -> str:
    """Run all four tests, write the report as a page, and return the recommendations from the journal in `folder`."""
    # Journal and store are there from the beginning, for a dashboard that is opened meanwhile.
    Path(folder).mkdir(mode=0o700, parents=True, exist_ok=True)
    store = SQLiteStore(Path(folder, STORE))
    store.keys()
    progress("reading the reviews, and training the candidate")
    reviews = load()
    half = len(reviews) // 2
    candidate = Trained(reviews[:half])
    # The demo sends a day's traffic in seconds, so shadows get a whole core; the default for production is a tenth of one.
    runtime = Runtime(journal=folder, store=store, shadows=ShadowLimits(cpu_share=1.0, max_jobs=10_000, max_age_s=60.0))
    try:
        sentiment(reviews[half:][:served], candidate, runtime)
        progress(f"{visits:,} visits through Interleave")
        films(runtime, visits)
    finally:
        runtime.close(10.0)
    progress("reading the journal")
    report = summarise(folder)
    Path(page).write_text(as_html(report), encoding="utf-8")
    return headlines(report)


def show(folder: str = "demo-journal", *, served: int | None = None, visits: int = 3000) -> None:
    """Run all four tests, and end with one screen: what to do about each, and the commands to look deeper."""
    target = Path(folder)
    if target.exists() and all(path.name.startswith(("events-", STORE)) for path in target.iterdir()):
        shutil.rmtree(target)
    print(f"\n{main(folder, served=served, visits=visits)}\n")
    command = os.path.relpath(Path(sys.executable).with_name("rollout"))
    print("The same with pictures:  report.html")
    print(f"Every number behind it:  {command} report {target} --full")


if __name__ == "__main__":
    show(*sys.argv[1:2])
