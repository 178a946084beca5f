"""What tests of the dashboard share: a store with a rollout, pages, and a browser that does as it is told."""

import re

import pytest
from starlette.testclient import TestClient

from rollout_sdk import Canary, Guardrail, Runtime, rollout
from rollout_sdk.charts import element, text
from rollout_sdk.control.stored import StoredRollout, opened
from rollout_sdk.control.stores import GuardedStore
from rollout_sdk.dashboard.app import application
from tests.waiting import until

TOKEN = "a token of twenty characters"
HOME = "http://localhost:8000"


class FakePages:
    """Pages whose version a test sets."""

    def __init__(self):
        self.number, self.keys = 1, ["shop.rank"]

    def version(self, key=None):
        return str(self.number)

    def ready(self, key):
        return None

    def overview(self):
        return element("h1", text(f"{len(self.keys)} rollouts"))

    def rollout(self, key):
        return element("h1", text(key)) if key in self.keys else None


@pytest.fixture
def address(tmp_path):
    """The address of a store in which a canary runs at 10 %."""
    address = f"sqlite:///{tmp_path}/rollouts.db"
    runtime = Runtime(store=address, journal=None)

    def answer(unit):
        return "control"

    canary = Canary(["10%", "50%"], guardrails=[Guardrail("error_rate")])
    ranked = rollout(key="shop.rank", strategy=canary, candidates={"v2": answer}, unit="unit", runtime=runtime)(answer)
    ranked("u1")
    with StoredRollout(address, "shop.rank") as found:
        # It is written in the background; before, a promotion has no verdict to wait for.
        until(lambda: found.status().plan)
    yield address
    runtime.close()


@pytest.fixture
def pages():
    return FakePages()


@pytest.fixture
def store(address):
    store = GuardedStore(opened(address), address)
    yield store
    store.close()


@pytest.fixture
def look(address):
    def look():
        with StoredRollout(address, "shop.rank") as found:
            return found.status()

    return look


@pytest.fixture
def history(address):
    def history():
        with StoredRollout(address, "shop.rank") as found:
            return found.history()

    return history


@pytest.fixture
def app(pages, store):
    return application(pages, store=store, token=TOKEN)


@pytest.fixture
def browser(app):
    with TestClient(app, base_url=HOME, headers={"origin": HOME}, follow_redirects=False) as client:
        yield client


@pytest.fixture
def operator(browser):
    """A browser in which ann has given the token."""
    assert browser.post("/login", data={"actor": "ann", "token": TOKEN}).status_code == 303
    return browser


def fields_of(page, action):
    """The hidden fields of the form for an action, as a browser would send them."""
    forms = re.findall(r"<form.*?</form>", page.text, re.DOTALL)
    form = next(form for form in forms if f'name="action" value="{action}"' in form)
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', form))
