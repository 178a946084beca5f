"""Kept pairs of answers in the dashboard: for who gave the token only, blind, and each labelled once."""

import re

import pytest
from starlette.testclient import TestClient

from rollout_sdk import Guardrail, Runtime, Shadow, ShadowLimits, rollout
from rollout_sdk.comparators import Disagreements
from rollout_sdk.control.stores import GuardedStore
from rollout_sdk.control.stores.opening import store_at
from rollout_sdk.dashboard.answers import Answers
from rollout_sdk.dashboard.app import application
from rollout_sdk.dashboard.live import LivePages
from rollout_sdk.journal import read_journal, read_pairs
from rollout_sdk.journal.pairs import AUDITS, control_is_first
from tests.waiting import until

from .conftest import HOME, TOKEN

CALLS = 12


@pytest.fixture
def chat(tmp_path):
    """A shadow whose answers all differ; half of its pairs are drawn for people."""
    address = f"sqlite:///{tmp_path}/rollouts.db"
    limits = ShadowLimits(max_jobs=10_000, cpu_share=1.0, max_age_s=60.0, timeout_s=60.0)
    runtime = Runtime(journal=tmp_path / "journal", store=address, shadows=limits)
    guardrail = Guardrail("judge.preference", margin=0.05, audit=0.5)

    @rollout(
        candidate=lambda text: f"<script>alert(1)</script> better {text}", strategy=Shadow(1.0, guardrails=[guardrail]),
        effects="read", keep=Disagreements(50, redact=None), runtime=runtime, key="chat/1",
    )  # fmt: skip
    def chat(text):
        return f"plain {text}"

    for number in range(2 * CALLS):
        chat(f"question {number}")
    assert runtime.flush(20.0)
    yield chat
    runtime.close()


@pytest.fixture
def folder(chat, tmp_path):
    return tmp_path / "journal"


@pytest.fixture
def app(folder, tmp_path):
    address = f"sqlite:///{tmp_path}/rollouts.db"
    store = GuardedStore(store_at(address), address)
    with LivePages(folder, store, every_s=0.05) as pages:
        answers = Answers(folder, store, labels=pages.labels)
        until(lambda: pages.rollout("chat/1"))
        yield application(pages, store=store, token=TOKEN, answers=answers)
        answers.close()
    store.close()


def logged_in(app, actor):
    browser = TestClient(app, base_url=HOME, headers={"origin": HOME}, follow_redirects=False)
    assert browser.post("/login", data={"actor": actor, "token": TOKEN}).status_code == 303
    return browser


@pytest.fixture
def ann(app):
    return logged_in(app, "ann")


def asked(browser):
    """The fields of the form about the next pair."""
    return dict(
        re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', browser.get("/audit/chat%2F1").text.split("<main>")[1])
    )


def labels(folder):
    lines = read_journal(folder)
    return [(line["id"], line["value"]) for line in lines if line["event"] == "outcome" and line.get("source") == "human"]


def test_nobody_without_a_session_sees_an_answer(app):
    stranger = TestClient(app, base_url=HOME, headers={"origin": HOME}, follow_redirects=False)
    assert "plain question" not in stranger.get("/rollout/chat%2F1").text
    assert stranger.get("/audit/chat%2F1").status_code == 403
    assert stranger.post("/audit", data={"key": "chat/1", "better": "a"}).status_code == 403


def test_the_answers_that_differ_are_on_the_page_as_text_and_blind(ann, folder):
    page = ann.get("/rollout/chat%2F1").text
    assert "plain question" in page
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page
    # Before one asks, nothing says whose answer is whose.
    assert len(re.findall("is the control&#x27;s answer", page)) == len(re.findall("Whose answers are these", page)) == 5


def test_an_answer_is_labelled_once_and_the_next_is_shown(ann, folder):
    pairs = {pair.id: pair for pair in read_pairs(folder, "chat/1", folder=AUDITS)}
    fields = asked(ann)
    pair = pairs[fields["id"]]
    said = "a" if "better" in pair.a else "b"
    answer = ann.post("/audit", data={**fields, "better": said})
    assert (answer.status_code, answer.headers["location"]) == (303, "/audit/chat%2F1")
    until(lambda: labels(folder))
    assert labels(folder) == [(pair.id, 1.0)]
    assert (said == "b") == control_is_first(pair.id)
    assert asked(ann)["id"] != pair.id
    # Neither by the same form, nor by one that another person was given before.
    assert ann.post("/audit", data={**fields, "better": said}).status_code == 409


def test_a_pair_that_two_people_were_given_has_the_first_ones_label(app, ann, folder):
    bob = logged_in(app, "bob")
    mine = asked(ann)
    for _ in range(50):
        theirs = asked(bob)
        if theirs["id"] == mine["id"]:
            break
        assert bob.post("/audit", data={**theirs, "better": "tie"}).status_code == 303
    assert bob.post("/audit", data={**theirs, "better": "a"}).status_code == 303
    before = len(labels(folder))
    assert ann.post("/audit", data={**mine, "better": "b"}).status_code == 409
    assert len(labels(folder)) == before


def test_a_label_from_elsewhere_is_not_asked_for_again(ann, chat, folder):
    fields = asked(ann)
    chat.rollout.record("judge.preference", 0.0, decision_id=fields["id"], source="human")
    chat.rollout._settings.runtime.flush(10.0)
    until(lambda: asked(ann)["id"] != fields["id"])
    assert ann.post("/audit", data={**fields, "better": "a"}).status_code == 409


def test_the_processes_that_judge_count_the_labels(ann, chat, folder):
    number = len(read_pairs(folder, "chat/1", folder=AUDITS))
    assert 3 < number < 2 * CALLS
    for _ in range(number):
        ann.post("/audit", data={**asked(ann), "better": "tie"})
    assert "No pair waits" in ann.get("/audit/chat%2F1").text
    assert len(labels(folder)) == number

    def people():
        return next(each for each in chat.rollout.judge().findings if each.name == "judge.preference").numbers["people"]

    until(lambda: people() == number)


@pytest.mark.parametrize("origin", ["http://evil.example", None])
def test_forms_of_another_origin_record_nothing(ann, folder, origin):
    fields = asked(ann)
    ann.headers.pop("origin")
    headers = {} if origin is None else {"origin": origin}
    assert ann.post("/audit", data={**fields, "better": "a"}, headers=headers).status_code == 403
    assert labels(folder) == []


@pytest.mark.parametrize(
    ("change", "status"),
    [({"better": "c"}, 400), ({"better": ""}, 400), ({"id": "x"}, 409), ({"key": "other"}, 409), ({"ticket": "x"}, 409)],
)
def test_forms_that_say_nonsense_record_nothing(ann, folder, change, status):
    fields = {**asked(ann), "better": "a", **change}
    assert ann.post("/audit", data=fields).status_code == status
    assert labels(folder) == []


def test_answers_that_cannot_be_read_are_not_the_forms_fault(ann, folder, monkeypatch):
    fields = asked(ann)

    def broken(*_, **__):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("rollout_sdk.dashboard.answers.waiting_pairs", broken)
    answer = ann.post("/audit", data={**fields, "better": "a"})
    assert (answer.status_code, ann.get("/audit/chat%2F1").status_code) == (503, 503)
    assert "Input/output error" in answer.text
    assert labels(folder) == []
