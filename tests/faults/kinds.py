"""One model as each of the four kinds of functions, and what a call of it came to."""

import asyncio

KINDS = ["function", "coroutine", "generator", "async generator"]


def of_kind(kind, answer):
    """A function of a kind that gives `answer(*arguments)`: as it is, or for streams item by item."""

    def function(*arguments):
        return answer(*arguments)

    async def coroutine(*arguments):
        return answer(*arguments)

    def generator(*arguments):
        yield from answer(*arguments)

    async def async_generator(*arguments):
        for item in answer(*arguments):
            yield item

    return dict(zip(KINDS, [function, coroutine, generator, async_generator], strict=True))[kind]


def of_rows(kind, answer):
    """A function or coroutine function that answers by row, as `batch="rows"` needs it."""

    async def coroutine(rows):
        return answer(rows)

    return coroutine if kind == "coroutine" else lambda rows: answer(rows)


def read(kind, given, loop):
    """What a call came to: items and the exception after them for a stream, else (the value, None) or (None, the exception)."""
    items = []

    async def read_all():
        async for item in given():
            items.append(item)

    async def boxed():
        # In a box: an event loop looks at what a task gives, for its repr.
        return [await given()]

    try:
        if kind == "function":
            return given(), None
        if kind == "coroutine":
            return loop.run_until_complete(boxed())[0], None
        if kind == "generator":
            for item in given():
                items.append(item)
        else:
            loop.run_until_complete(read_all())
    except BaseException as error:
        return (items if "generator" in kind else None), error
    return items, None


def turns(loop, number=5):
    """Let whatever waits on a loop have a few turns."""

    async def wait():
        for _ in range(number):
            await asyncio.sleep(0)

    loop.run_until_complete(wait())


async def answered(kind, given):
    """What a call gives that is made while a loop runs: its value, or the items of a stream."""
    if kind == "coroutine":
        return await given
    return [item async for item in given] if kind == "async generator" else [*given]
