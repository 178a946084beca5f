"""Language models from a shadow step to promotion: compared, judged by a third model, corrected by people, or rolled back.

Each candidate is another model behind an OpenAI-style server on this machine. No user sees any of them before its shadow step
has passed; the one that passes serves half of the calls, and then all of them. Run it: python examples/llm_canary/main.py
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
import textwrap
import time
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from attrs import frozen

sys.path.insert(0, str(Path(__file__).parent))

from server import serving

from rollout_sdk import (
    Canary,
    Guardrail,
    Judge,
    Judgement,
    Money,
    Runtime,
    ShadowLimits,
    Step,
    TransitionedEvent,
    Verdict,
    rollout,
)
from rollout_sdk.comparators import Disagreements, Equal, Fields, Ignore
from rollout_sdk.journal import read_pairs

PRICE = 0.00001
"""Dollars for a token."""

WIDTH = 80

CHUNK, MOST = 100, 1_500
"""Number of calls between two looks, and in total."""

LABELS = 600
"""Number of pairs that are kept for people."""


@frozen
class Answer:
    """An answer as the application uses it; its id and time are unique."""

    id: str
    created: int
    text: str
    number: int | None
    tokens: int
    first_token_s: float
    tokens_per_s: float


@frozen
class Candidate:
    """A candidate, the model that judges it, and its expected end.

    Attributes:
        model: The model.
        judge: The model that judges it.
        expected: "rolled_back" in its shadow step, or "promoted" if it passes both steps.
        because: The guardrail that decides, if it is rolled back.
        guardrails: Guardrails in addition to those of all candidates.
    """

    model: str
    judge: str
    expected: str
    because: str = ""
    guardrails: tuple[Guardrail, ...] = ()


# Not for all candidates: the slowest few calls decide a mean of times, so that passing one takes thousands once it serves.
FAST = Guardrail("first_token_s", margin=0.05, better="lower", per="outcome")

LIKES_LONG, DISLIKES_NEW = "judge-that-likes-long-answers", "judge-that-likes-the-old-words"
CANDIDATES = (
    Candidate("plain-2", DISLIKES_NEW, "promoted"),
    Candidate("charming", LIKES_LONG, "rolled_back", "judge.preference"),
    Candidate("late", LIKES_LONG, "rolled_back", "first_token_s", (FAST,)),
    Candidate("wordy", LIKES_LONG, "rolled_back", "cost"),
    Candidate(
        "contrary", LIKES_LONG, "rolled_back", "shadow.mismatch.number", (Guardrail("shadow.mismatch.number", margin=0.4),)
    ),
)


def complete(port: int, model: str, prompt: str) -> Answer:
    """Ask a model, and read its answer as it is streamed."""
    begun = time.perf_counter()
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    body = {"model": model, "stream": True, "messages": [{"role": "user", "content": prompt}]}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
    words: list[str] = []
    chunk: dict[str, Any] = {}
    first_s = 0.0
    with connection.getresponse() as response:
        for line in response:
            if not line.startswith(b"data: ") or line.strip() == b"data: [DONE]":
                continue
            chunk = json.loads(line[6:])
            if chunk["choices"]:
                first_s = first_s or time.perf_counter() - begun
                words.append(chunk["choices"][0]["delta"]["content"])
    connection.close()
    text, took_s = "".join(words), time.perf_counter() - begun
    numbers = re.findall(r"\d+", text)
    return Answer(
        id=chunk["id"],
        created=chunk["created"],
        text=text,
        number=int(numbers[-1]) if numbers else None,
        tokens=chunk["usage"]["total_tokens"],
        first_token_s=first_s,
        tokens_per_s=len(words) / took_s,
    )


def measured(answer: Answer) -> dict[str, float]:
    """Return the measurements of an answer, also for a shadow's."""
    return {
        "cost": answer.tokens * PRICE,
        "first_token_s": answer.first_token_s,
        "tokens_per_s": answer.tokens_per_s,
    }


def judge_of(port: int, model: str) -> Judge:
    """Return a judge that asks a third model, for at most 5 dollars an hour."""

    def judge(request: Any, a: Answer, b: Answer) -> Judgement:
        prompt = f"Which answer to {request.arguments['question']!r} is better?\nA: {a.text}\nB: {b.text}"
        answer = complete(port, model, prompt)
        return Judgement(answer.text, cost=answer.tokens * PRICE)  # type: ignore[arg-type]

    return Judge(judge, sample=1.0, budget=Money(5, "USD", per="hour"), price=0.01, name=model)


def better(question: str, one: int | None, other: int | None) -> float:
    """Return a person's preference: 1 if only the first answer is right, -1 if only the second is, else 0."""
    first, second = map(int, re.findall(r"\d+", question)[:2])
    return float(one == first + second) - float(other == first + second)


def audit(chat: Any, journal: str, labelled: set[str]) -> int:
    """Compare the drawn pairs as a person would, as with `rollout audit` in a terminal; return their number."""
    pairs = [pair for pair in read_pairs(journal, chat.rollout.key, folder="audits") if pair.id not in labelled]
    for pair in pairs:
        candidate, control = (pair.b, pair.a) if pair.as_dict(is_revealed=True)["control"] == "a" else (pair.a, pair.b)
        preference = better(pair.arguments["question"], candidate["number"], control["number"])
        chat.rollout.record("judge.preference", preference, decision_id=pair.id, source="human")
        labelled.add(pair.id)
    return len(pairs)


class Deciding:
    """An observer that keeps the verdicts that moved a rollout, whether this program asked for them or the background did."""

    name = "deciding"

    def __init__(self) -> None:
        self.verdicts: list[Verdict] = []

    def rollout_transitioned(self, event: TransitionedEvent) -> None:
        """Keep the verdict of a step, a promotion or a rollback."""
        if event.evidence is not None:
            self.verdicts.append(Verdict.from_dict(event.evidence))


def decided(port: int, candidate: Candidate, journal: str) -> tuple[str, str, list[Verdict]]:
    """Serve calls until a candidate is promoted or rolled back; return its status, its step, and the verdicts that moved it."""
    deciding, limits = Deciding(), ShadowLimits(max_jobs=2 * CHUNK, cpu_share=1.0, workers=4)
    runtime = Runtime(journal=journal, shadows=limits, plugins=[deciding])

    def new(question: str) -> Answer:
        return complete(port, candidate.model, question)

    plan = Canary(
        [Step("0%", shadow="100%", min_time=0), Step("50%", min_time=0)],
        guardrails=[
            Guardrail("error_rate"),
            Guardrail("judge.preference", margin=0.15, audit=0.5),
            Guardrail("cost", margin=5 * PRICE, better="lower", per="outcome"),
            *candidate.guardrails,
        ],
    )

    @rollout(
        candidate=new,
        strategy=plan,
        judge=judge_of(port, candidate.judge),
        measure=measured,
        # Ids and times are irrelevant, and so are different words with the same meaning.
        compare=Fields({"number": Equal(), "id": Ignore(), "created": Ignore(), "text": Ignore()}, extra="ignore"),
        keep=Disagreements(LABELS, redact=None),
        effects="read",
        key=f"chat.{candidate.model}",
        runtime=runtime,
    )
    def chat(question: str) -> Answer:
        return complete(port, "plain-1", question)

    labelled: set[str] = set()
    for number in range(MOST):
        chat(f"What is {number} plus {number * 7 % 100} ?")
        if number % CHUNK == CHUNK - 1:
            runtime.flush(60.0)
            audit(chat, journal, labelled)
            chat.rollout.judge()
            if chat.rollout.status().status in ("promoted", "rolled_back"):
                break
    status = chat.rollout.status()
    runtime.close()
    return status.status, status.phase, deciding.verdicts


def lines_of(verdict: Verdict) -> str:
    """Break the lines of a verdict, so that they fit a terminal."""
    return "\n".join(textwrap.fill(line, WIDTH, subsequent_indent=" " * 20) for line in str(verdict).splitlines())


def main(folder: str | None = None) -> str:
    """Run every candidate to its end; return the results, with their arithmetic."""
    lines = []
    with tempfile.TemporaryDirectory() as made, serving() as port:
        for candidate in CANDIDATES:
            status, phase, verdicts = decided(port, candidate, str(Path(folder or made) / candidate.model))
            found = "\n".join(map(lines_of, verdicts))
            lines.append(f"=== {candidate.model}: {status}, phase {phase} ===\njudge: {candidate.judge}\n{found}\n")
    return "\n".join(lines)


if __name__ == "__main__":
    print(main())
