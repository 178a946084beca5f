"""A decorated function has the type that it had, whatever its kind. Checked by mypy and pyright, never run."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator, Iterator
from typing import Any, assert_type

from rollout_sdk import ABTest, Decision, Decorated, Interleave, RolloutController, Routed, rollout


def rank_v2(user: str, query: str = "", *, size: int = 10) -> list[str]: ...  # type: ignore[empty-body]


# A plain function -------------------------------------------------------------------------------------------------------


@rollout(candidate=rank_v2, strategy=ABTest(0.5), unit="user")
def rank(user: str, query: str = "", *, size: int = 10) -> list[str]: ...  # type: ignore[empty-body]


assert_type(rank("u-1"), list[str])
assert_type(rank("u-1", "shoes", size=5), list[str])
assert_type(rank(user="u-1", query="shoes"), list[str])
assert_type(rank.rollout.route("u-1", size=5), Routed[list[str]])
assert_type(rank.rollout.route("u-1").value, list[str])
assert_type(rank.rollout.route("u-1").decision, Decision)
assert_type(rank.rollout.key, str)
assert_type(rank.__name__, str)

rollout(candidate=rank_v2, strategy=ABTest(0.5), unit=("user", "query"))
rollout(candidate=rank_v2, strategy=ABTest(0.5), unit=["user", "query"])  # type: ignore[arg-type]
rollout(candidate=rank_v2, strategy=ABTest(0.5), covariate=("user", "query"))  # type: ignore[arg-type]

rank()  # type: ignore[call-arg]
rank(7)  # type: ignore[arg-type]
rank("u-1", size="5")  # type: ignore[arg-type]
rank("u-1", "shoes", 5)  # type: ignore[call-arg]
rank("u-1", colour="red")  # type: ignore[call-arg]
rank.rollout.route()  # type: ignore[call-arg]
rank.rollout.route(7)  # type: ignore[arg-type]
rank.rollout.route("u-1", colour="red")  # type: ignore[call-arg]
rank.rollout.promoted()  # type: ignore[attr-defined]
length: int = rank("u-1")  # type: ignore[assignment]

as_a_callable: Callable[[str, str], list[str]] = rank
as_a_callable_of_another_type: Callable[[int], list[str]] = rank  # type: ignore[assignment]


def serve(model: Callable[[str], list[str]]) -> list[str]:
    """Takes a decorated function for a function."""
    return model("u-1")


assert_type(serve(rank), list[str])


def steer(controller: RolloutController[..., list[str]]) -> None:
    """Takes the controller of any function that gives a list of texts."""
    controller.abort(reason=controller.key)


def steer_any(controller: RolloutController[..., object]) -> None:
    """Takes the controller of any function."""


steer(rank.rollout)
steer_any(rank.rollout)


def wrap(model: Decorated[[str], list[str]]) -> Routed[list[str]]:
    """Takes a decorated function for what it is."""
    return model.rollout.route("u-1")


# A function without parameters ------------------------------------------------------------------------------------------


@rollout(candidate=lambda: 2, strategy=ABTest(0.5))
def number() -> int: ...  # type: ignore[empty-body]


assert_type(number(), int)
assert_type(number.rollout.route(), Routed[int])
number(1)  # type: ignore[call-arg]


# A coroutine function ---------------------------------------------------------------------------------------------------


async def answer_v2(user: str) -> str: ...  # type: ignore[empty-body]


@rollout(candidate=answer_v2, strategy=ABTest(0.5), unit="user")
async def answer(user: str) -> str: ...  # type: ignore[empty-body]


async def ask() -> None:
    """Awaits what has to be awaited."""
    assert_type(await answer("u-1"), str)
    assert_type(await answer.rollout.route("u-1"), Routed[str])
    assert_type((await answer.rollout.route(user="u-1")).value, str)
    routing = answer.rollout.route("u-1")
    assert_type(routing, Coroutine[Any, Any, Routed[str]]).close()
    answer("u-1")  # type: ignore[unused-coroutine]
    answer.rollout.route("u-1")  # type: ignore[unused-coroutine]
    await answer(7)  # type: ignore[arg-type]
    await answer.rollout.route(7)  # type: ignore[call-overload]


# Streams ----------------------------------------------------------------------------------------------------------------


@rollout(candidate=rank_v2, strategy=ABTest(0.5), unit="user")
def words(user: str) -> Iterator[str]:
    """A generator."""
    yield user


@rollout(candidate=rank_v2, strategy=ABTest(0.5), unit="user")
def talk(user: str) -> Generator[str, int, bool]:
    """A generator that is sent numbers and gives a truth value."""
    received = yield user
    return bool(received)


@rollout(candidate=rank_v2, strategy=ABTest(0.5), unit="user")
async def tokens(user: str) -> AsyncIterator[str]:
    """An async generator."""
    yield user


@rollout(candidate=rank_v2, strategy=ABTest(0.5), unit="user")
async def dialogue(user: str) -> AsyncGenerator[str, int]:
    """An async generator that is sent numbers."""
    yield user


assert_type(words("u-1"), Iterator[str])
assert_type(words.rollout.route("u-1"), Routed[Iterator[str]])
assert_type(talk("u-1"), Generator[str, int, bool])
assert_type(talk.rollout.route("u-1").value.send(1), str)
assert_type(tokens("u-1"), AsyncIterator[str])
assert_type(tokens.rollout.route("u-1"), Routed[AsyncIterator[str]])
assert_type(dialogue.rollout.route("u-1"), Routed[AsyncGenerator[str, int]])
words(7)  # type: ignore[arg-type]
tokens(7)  # type: ignore[arg-type]


async def listen() -> None:
    """Streams are iterated as they were."""
    async for token in tokens("u-1"):
        assert_type(token, str)
    async for token in tokens.rollout.route("u-1").value:
        assert_type(token, str)
    for word in words("u-1"):
        assert_type(word, str)


# Callable objects and functions that were there before ------------------------------------------------------------------


class Model:
    """A callable object."""

    def __call__(self, user: str) -> float: ...  # type: ignore[empty-body]


decorate = rollout(candidate=Model(), strategy=Interleave(), unit="user")
score = decorate(Model())
assert_type(score("u-1"), float)
assert_type(score.rollout.route("u-1"), Routed[float])
score(7)  # type: ignore[arg-type]


# The options ------------------------------------------------------------------------------------------------------------

rollout(rank_v2, strategy=ABTest(0.5))  # type: ignore[call-arg]
rollout(candidate=rank_v2)  # type: ignore[call-arg]
rollout(candidate="rank_v2", strategy="ab")  # type: ignore[arg-type]
rollout(candidate=rank_v2, strategy="ab", missing_unit="none")  # type: ignore[arg-type]
rollout(candidate=rank_v2, strategy="ab", on_error="ignore")  # type: ignore[arg-type]
rollout(candidate=rank_v2, strategy="ab", isolate="copy")  # type: ignore[arg-type]
rollout(candidate=rank_v2, strategy="ab", sticky=True)  # type: ignore[call-arg]
rollout(candidates=[rank_v2], strategy="ab")  # type: ignore[arg-type]
rollout(candidate=rank_v2, strategy="ab", runtime="default")  # type: ignore[arg-type]
ABTest([0.5])  # type: ignore[arg-type]
