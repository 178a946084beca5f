import asyncio
import re
from threading import Event

import pytest
from starlette.testclient import TestClient

from rollout_sdk import ABTest, Runtime, rollout
from rollout_sdk.analysis.live import Live
from rollout_sdk.charts import element, text
from rollout_sdk.control.stored import StoredRollout
from rollout_sdk.dashboard.app import application
from rollout_sdk.dashboard.live import LivePages
from rollout_sdk.exceptions import StoreError
from rollout_sdk.page.stored import changes
from tests.waiting import until

from .conftest import HOME


@pytest.fixture
def reader(pages):
    with TestClient(application(pages), base_url=HOME) as client:
        yield client


@pytest.mark.parametrize("path", ["/", "/rollout/shop.rank", "/rollout/unknown", "/style.css", "/page.js", "/nowhere"])
def test_every_answer_forbids_what_is_not_its_own(reader, path):
    policy = reader.get(path).headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy


def test_pages_have_no_script_and_no_style_of_their_own(reader):
    page = reader.get("/").text
    assert "<script>" not in page
    assert "<style" not in page
    assert " style=" not in page
    assert 'src="/page.js"' in page


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "", "localhost.evil.example"])
def test_another_host_is_not_answered_for(reader, host):
    answer = reader.get("/", headers={"host": host})
    assert answer.status_code == 421
    assert "rollouts" not in answer.text


@pytest.mark.parametrize("host", ["localhost:9", "127.0.0.1:8000", "[::1]:8000", "LOCALHOST"])
def test_this_machine_is(reader, host):
    assert reader.get("/", headers={"host": host}).status_code == 200


def test_an_unknown_rollout_is_not_found_and_shown_as_text(reader):
    answer = reader.get("/rollout/%3Cscript%3Ealert(1)%3C/script%3E")
    assert answer.status_code == 404
    assert "<script>alert" not in answer.text
    assert "&lt;script&gt;alert" in answer.text


def test_a_page_that_does_not_exist_looks_like_the_others(reader):
    answer = reader.get("/nowhere")
    assert answer.status_code == 404
    assert "There is no such page." in answer.text
    assert '<a href="/">Rollouts</a>' in answer.text


def test_a_key_may_have_slashes(reader, pages):
    pages.keys.append("a/b c?d#e")
    assert "a/b c?d#e" in reader.get("/rollout/a%2Fb%20c%3Fd%23e").text


def test_a_page_that_replaces_itself_gets_its_main_part_only(reader):
    assert reader.get("/", headers={"x-fragment": "1"}).text == "<h1>1 rollouts</h1>"


def test_a_page_says_which_version_it_is(reader, pages):
    for page in ("/", "/rollout/shop.rank", "/rollout/unknown"):
        assert 'name="version" content="1"' in reader.get(page).text
    # A form has nothing to follow.
    assert 'name="version"' not in reader.get("/login").text


def test_the_version_of_a_page_is_from_before_it_was_made(reader, pages):
    made = pages.overview

    def slow():
        pages.number += 1
        return made()

    pages.overview = slow
    assert 'name="version" content="1"' in reader.get("/").text


def test_a_page_that_is_made_is_not_made_again(reader, pages):
    pages.ready = lambda key: (element("h1", text(f"made: {key}")),)
    pages.overview = pages.rollout = None
    assert [reader.get(page, headers={"x-fragment": "1"}).text for page in ("/", "/rollout/shop.rank")] == [
        "<h1>made: None</h1>",
        "<h1>made: shop.rank</h1>",
    ]


def test_a_page_follows_its_own_rollout(reader):
    assert 'name="events" content="/events"' in reader.get("/").text
    assert 'name="events" content="/events?rollout=shop.rank"' in reader.get("/rollout/shop.rank").text
    assert 'name="events" content="/events?rollout=a%2F%26b"' in reader.get("/rollout/a%2F%26b").text


def test_a_page_has_another_version_when_its_rollout_has_changed_and_not_when_another_has(tmp_path):
    runtime = Runtime(journal=tmp_path, key=b"k" * 16)
    one, other = (
        rollout(candidate=lambda unit: 2, strategy=ABTest(0.5), unit="unit", key=key, runtime=runtime)(lambda unit: 1)
        for key in ("one", "other")
    )
    one("u"), other("u")
    runtime.flush()
    with LivePages(tmp_path, every_s=0.05) as pages:
        until(lambda: all("Next:" in (pages.rollout(key) or "") for key in ("one", "other")))
        before = {key: pages.version(key) for key in (None, "one", "other", "third")}
        one("u2")
        runtime.flush()
        until(lambda: pages.version("one") != before["one"])
        assert pages.version() != before[None]
        assert [pages.version("other"), pages.version("third")] == [before["other"], before["third"]]
        # What is made already is there at once; what has changed is not.
        assert pages.ready("other") == (pages.rollout("other"),)
        assert pages.ready("one") is None
    runtime.close()


def test_a_change_in_the_store_is_another_version_of_its_page_alone(tmp_path, address, store):
    with LivePages(tmp_path, store, every_s=0.05) as pages:
        until(lambda: "shop.rank" in pages.overview())
        before = pages.version("shop.rank"), pages.version("shop.ads"), pages.version()
        with StoredRollout(address, "shop.rank", actor="ann") as found:
            found.abort(reason="complaints")
        until(lambda: pages.version("shop.rank") != before[0])
        assert pages.version("shop.ads") == before[1]
        assert pages.version() != before[2]


def test_changes_are_sent_as_events(pages):
    """The stream is read as a server would, because a test client waits for its end."""
    app, sent, connected = application(pages), [], asyncio.Event

    async def run():
        gone = connected()

        async def receive():
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message):
            if message["type"] == "http.response.body" and message["body"]:
                sent.append(message["body"].decode())
                pages.number += 1
                if len(sent) == 3:
                    gone.set()

        scope = {
            "type": "http",
            "method": "GET",
            "path": "/events",
            "raw_path": b"/events",
            "query_string": b"",
            "root_path": "",
        }
        await asyncio.wait_for(app({**scope, "headers": [(b"host", b"localhost")], "http_version": "1.1"}, receive, send), 20)

    asyncio.run(run())
    assert sent == ["data: 1\n\n", "data: 2\n\n", "data: 3\n\n"]


def test_a_stream_of_which_nothing_is_new_says_so_every_15_seconds(pages, monkeypatch):
    """So that what is between the browser and this server does not take it for dead."""
    looks, sent = [], []
    sleep = asyncio.sleep

    async def look_on(seconds):
        looks.append(seconds)
        await sleep(0)

    async def run():
        gone = asyncio.Event()

        async def receive():
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message):
            if message["type"] == "http.response.body" and message["body"]:
                sent.append((sum(looks), message["body"].decode()))
                if len(sent) == 3:
                    gone.set()

        scope = {"type": "http", "method": "GET", "path": "/events", "raw_path": b"/events", "query_string": b""}
        scope |= {"root_path": "", "headers": [(b"host", b"localhost")], "http_version": "1.1"}
        await asyncio.wait_for(application(pages)(scope, receive, send), 20)

    monkeypatch.setattr("rollout_sdk.dashboard.app.asyncio.sleep", look_on)
    asyncio.run(run())
    assert sent == [(0, "data: 1\n\n"), (15.0, ": nothing new\n\n"), (30.0, ": nothing new\n\n")]


def test_pages_that_are_closed_are_read_no_more(tmp_path):
    with LivePages(tmp_path, every_s=60.0) as pages:
        thread = pages._thread
        assert thread.is_alive()
    assert not thread.is_alive()


def test_while_a_journal_is_read_the_page_says_how_much_of_it_is(tmp_path, monkeypatch):
    goes_on, read = Event(), Live.read

    def halting(live, progress=None):
        if progress is not None:
            progress(1, 3)
            assert goes_on.wait(60)
        return read(live, progress)

    monkeypatch.setattr(Live, "read", halting)
    with LivePages(tmp_path, every_s=0.05) as pages:
        until(lambda: "33 %" in pages.overview())
        # Whether there is such a rollout is not known yet.
        assert "33 %" in pages.rollout("shop.rank")
        before = pages.version()
        goes_on.set()
        until(lambda: "Nothing was written" in pages.overview())
        assert pages.version() != before
        assert pages.rollout("shop.rank") is None


def test_a_page_shows_what_was_changed_in_the_store_while_no_process_served(tmp_path, address, store):
    with StoredRollout(address, "shop.rank", actor="ann") as found:
        found.abort(reason="<b>complaints</b>")
    with LivePages(tmp_path, store, every_s=0.05) as pages:
        until(lambda: "complaints" in (pages.rollout("shop.rank") or ""))
        page = pages.rollout("shop.rank")
    _, _, history = page.partition("<summary>History in the store</summary>")
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr>(<td.*?)</tr>", history)]
    assert [("start", "0:10%", ""), ("abort", "1:aborted", "ann")] == [tuple(row[1:4]) for row in rows]
    assert "&lt;b&gt;complaints&lt;/b&gt;" in history


def test_a_history_that_cannot_be_read_is_a_sentence_on_the_page(tmp_path, store, monkeypatch):
    def broken(rollout):
        raise StoreError("The history is locked.")

    monkeypatch.setattr(StoredRollout, "history", broken)
    with LivePages(tmp_path, store, every_s=0.05) as pages:
        until(lambda: "In the store" in (pages.rollout("shop.rank") or ""))
        assert "The history is locked." in pages.rollout("shop.rank")


def test_a_change_without_a_time_is_shown_all_the_same():
    assert "pause" in changes([{"action": "pause", "time_s": "soon"}])
    assert changes([]) == ""
