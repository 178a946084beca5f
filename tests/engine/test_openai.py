"""The streams of OpenAI's client are measured, fall back, and are to callers what the client's own are; nothing is sent."""

import asyncio
import json
import sys

import pytest

from rollout_sdk import ABTest, Shadow, rollout

openai = pytest.importorskip("openai", reason="the client whose streams these are")
# The HTTP library that this version of the client is built on.
http = sys.modules[openai.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0]]


class Body(http.SyncByteStream, http.AsyncByteStream):
    def __init__(self, lines):
        self.lines = lines

    def __iter__(self):
        yield from self.lines

    async def __aiter__(self):
        for line in self.lines:
            yield line


class Broken(Body):
    """A body that breaks off where an exception stands in the place of a part."""

    def __iter__(self):
        for part in self.lines:
            if isinstance(part, Exception):
                raise part
            yield part

    async def __aiter__(self):
        for part in self:
            yield part


def answer(words, *, breaks_at):
    """A response of server-sent events: a chunk for each word, with an error in the place of one."""
    lines = []
    for number, word in enumerate(words):
        chunk = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        chunk["choices"] = [{"index": 0, "delta": {"content": word}}]
        lines.append({"error": {"message": "overloaded"}} if number == breaks_at else chunk)
    body = [b"data: " + json.dumps(line).encode() + b"\n\n" for line in lines]
    return http.Response(200, headers={"content-type": "text/event-stream"}, stream=Body([*body, b"data: [DONE]\n\n"]))


def client(words, *, breaks_at=None):
    transport = http.MockTransport(lambda request: answer(words, breaks_at=breaks_at))
    return openai.OpenAI(api_key="none", base_url="http://local", max_retries=0, http_client=http.Client(transport=transport))


def async_client(words, *, breaks_at=None):
    async def handle(request):
        return answer(words, breaks_at=breaks_at)

    http_client = http.AsyncClient(transport=http.MockTransport(handle))
    return openai.AsyncOpenAI(api_key="none", base_url="http://local", max_retries=0, http_client=http_client)


def asking(model):
    """A plain function: the client's method is wrapped in one, also where what it returns is a coroutine."""
    return lambda text: model.chat.completions.create(model="m", messages=[], stream=True)


def asking_async(model):
    async def ask(text):
        return await model.chat.completions.create(model="m", messages=[], stream=True)

    return ask


FORMS = pytest.mark.parametrize("form", [asking, asking_async], ids=["plain function", "coroutine function"])


def both(control, candidate, runtime, **options):
    return rollout(candidate=candidate, **{"strategy": ABTest(1.0), "key": "chat", "runtime": runtime, **options})(control)


def word(chunk):
    return chunk.choices[0].delta.content


def runs(runtime):
    return [[(run.variant, run.error) for run in event.runs] for event in runtime.routed()]


def test_a_stream_is_the_clients_own_to_its_reader(runtime):
    with both(asking(client("ab")), asking(client("xyz")), runtime)("hello") as stream:
        assert isinstance(stream, openai.Stream)
        assert 200 == stream.response.status_code
        assert ["x", "y", "z"] == [word(chunk) for chunk in stream]
        assert stream.response.is_closed
    assert [[("candidate", None)]] == runs(runtime)
    assert runtime.routed()[0].runs[0].first_item_s > 0


def test_an_error_event_before_the_first_chunk_falls_back(runtime):
    model = both(asking(client("ab")), asking(client("xyz", breaks_at=0)), runtime)
    with model("hello") as stream:
        assert ["a", "b"] == [word(chunk) for chunk in stream]
    assert [[("candidate", "APIError"), ("control", None)]] == runs(runtime)


def test_an_error_event_after_the_first_chunk_is_the_callers_and_the_candidates(runtime):
    stream = both(asking(client("ab")), asking(client("xyz", breaks_at=1)), runtime)("hello")
    assert "x" == word(next(stream))
    with pytest.raises(openai.APIError, match="overloaded"):
        next(stream)
    assert [[("candidate", "APIError")]] == runs(runtime)


@FORMS
def test_an_async_stream_is_the_clients_own_to_its_reader(runtime, form):
    async def main():
        async with await both(form(async_client("ab")), form(async_client("xyz")), runtime)("hello") as stream:
            assert isinstance(stream, openai.AsyncStream)
            assert 200 == stream.response.status_code
            return [word(chunk) async for chunk in stream]

    assert ["x", "y", "z"] == asyncio.run(main())
    assert [[("candidate", None)]] == runs(runtime)
    assert runtime.routed()[0].runs[0].first_item_s > 0


@FORMS
def test_an_error_event_before_the_first_chunk_of_an_async_stream_falls_back(runtime, form):
    async def main():
        model = both(form(async_client("ab")), form(async_client("xyz", breaks_at=0)), runtime)
        return [word(chunk) async for chunk in await model("hello")]

    assert ["a", "b"] == asyncio.run(main())
    assert [[("candidate", "APIError"), ("control", None)]] == runs(runtime)


@FORMS
def test_an_async_stream_that_is_closed_is_recorded_and_gives_its_connection_back(runtime, form):
    async def main():
        stream = await both(form(async_client("ab")), form(async_client("xyz")), runtime)("hello")
        assert "x" == word(await anext(stream))
        await stream.close()
        assert stream.response.is_closed

    asyncio.run(main())
    assert [(True, None)] == [(event.closed_early, event.error) for event in runtime.routed()]


@FORMS
def test_a_shadow_reads_the_candidates_stream_and_is_compared(runtime, form):
    async def main():
        for key, breaks_at in (("same", None), ("bad", 0)):
            candidate = form(async_client("ab", breaks_at=breaks_at))
            model = both(form(async_client("ab")), candidate, runtime, strategy=Shadow(1.0), effects="read", key=key)
            assert ["a", "b"] == [word(chunk) async for chunk in await model("hello")]
        await asyncio.sleep(0.2)

    asyncio.run(main())
    ends = {event.decision.rollout: (event.end, event.error) for event in runtime.shadowed()}
    assert {"same": ("ok", None), "bad": ("error", "APIError")} == ends


@pytest.mark.parametrize("is_async", [False, True])
def test_the_body_of_a_streaming_response_of_its_http_client_is_measured(runtime, is_async):
    def make(*parts):
        def get(text):
            client = http.Client(transport=http.MockTransport(lambda _: http.Response(200, stream=Broken(parts))))
            return client.send(client.build_request("GET", "http://local"), stream=True)

        async def get_async(text):
            transport = http.MockTransport(lambda _: http.Response(200, stream=Broken(parts)))
            client = http.AsyncClient(transport=transport)
            return await client.send(client.build_request("GET", "http://local"), stream=True)

        return get_async if is_async else get

    model = both(make(b"mine\n"), make(ConnectionError("reset")), runtime)

    async def main():
        response = await model("hello")
        assert isinstance(response, http.Response)
        return [line async for line in response.aiter_lines()], response.is_closed

    if is_async:
        assert (["mine"], True) == asyncio.run(main())
    else:
        response = model("hello")
        assert isinstance(response, http.Response)
        assert (["mine"], True) == (list(response.iter_lines()), response.is_closed)
    assert [[("candidate", "ConnectionError"), ("control", None)]] == runs(runtime)


def test_an_answer_that_is_not_a_stream_is_the_very_object(runtime):
    whole = {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": []}
    transport = http.MockTransport(lambda request: http.Response(200, json=whole))
    model = openai.OpenAI(api_key="none", base_url="http://local", http_client=http.Client(transport=transport))
    made = []

    def ask(text):
        made.append(model.chat.completions.create(model="m", messages=[]))
        return made[-1]

    assert both(ask, ask, runtime)("hello") is made[0]
    assert [None] == [event.unmeasured for event in runtime.routed()]
