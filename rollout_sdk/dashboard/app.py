"""The application: pages, their updates, and forms."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from importlib.resources import files
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from rollout_sdk.charts import Markup, element, join, text
from rollout_sdk.control.stored import StoredRollout
from rollout_sdk.control.stores import StateStore
from rollout_sdk.dashboard.answers import Answers, subject
from rollout_sdk.dashboard.guard import Guard, form, is_own_origin
from rollout_sdk.dashboard.live import LivePages
from rollout_sdk.dashboard.operating import change, forms
from rollout_sdk.dashboard.sessions import Session, Sessions
from rollout_sdk.exceptions import ConfigurationError, ConflictError, JournalError, RolloutError, StoreError
from rollout_sdk.page import AFTER_EFFECTS, STYLE_SHEET, document

__all__ = ["LOCAL_HOSTS", "application"]

LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")
_COOKIE = "rollout_dashboard"
_LOOK_EVERY_S = 0.5
_ALIVE_EVERY_S = 15.0
_LONGEST_ACTOR = 80
_SCRIPT = files("rollout_sdk.dashboard").joinpath("page.js").read_text("utf-8")


def application(
    pages: LivePages,
    *,
    store: StateStore | None = None,
    token: str | None = None,
    hosts: Collection[str] = LOCAL_HOSTS,
    answers: Answers | None = None,
) -> Starlette:
    """The dashboard as an ASGI application.

    Args:
        pages: The pages.
        store: Where the rollouts are; without it, they can be looked at only.
        token: Who knows it may operate; None: the dashboard is read-only.
        hosts: The hosts that it answers for.
        answers: Kept pairs of answers, shown to people who gave the token; None: they are not shown.

    Raises:
        ConfigurationError: A token without a store, or one that is too short.
    """
    if token is not None and store is None:
        raise ConfigurationError(
            "A rollout is operated through its store, and there is none. Give --store, or leave --operate out."
        )
    app = _Dashboard(pages, store, None if token is None else Sessions(token), answers)
    routes = [
        Route("/", app.overview),
        Route("/rollout/{key:path}", app.rollout),
        Route("/events", app.events),
        Route("/style.css", _style),
        Route("/page.js", _script),
        Route("/login", app.login_page),
        Route("/login", app.log_in, methods=["POST"]),
        Route("/logout", app.log_out, methods=["POST"]),
        Route("/operate", app.operate, methods=["POST"]),
        Route("/audit/{key:path}", app.audit),
        Route("/audit", app.label, methods=["POST"]),
    ]
    return Starlette(routes=routes, middleware=[Middleware(Guard, hosts=hosts)], exception_handlers={404: app.missing})


class _Dashboard:
    """The handlers of requests."""

    def __init__(self, pages: LivePages, store: StateStore | None, sessions: Sessions | None, answers: Answers | None) -> None:
        self._pages = pages
        self._store = store
        self._sessions = sessions
        self._answers = answers
        self._making = asyncio.Lock()

    async def overview(self, request: Request) -> Response:
        """All rollouts."""
        version = self._pages.version()
        return self._page(request, "Rollouts", await self._made(None) or Markup(""), live=(version, "/events"))

    async def rollout(self, request: Request) -> Response:
        """One rollout, with the forms for who may operate it."""
        key = request.path_params["key"]
        live = self._pages.version(key), f"/events?rollout={quote(key, safe='')}"
        body = await self._made(key)
        if body is None:
            body = _sentence(f"There is no rollout {key!r}, neither in the journal nor in the store.")
            body = join([element("h1", text("Not found")), body])
            return self._page(request, "Not found", body, 404, live=live)
        session = self._session(request)
        if session is not None and self._store is not None:
            # Whoever is to stop a rollout must not look for the button.
            head, place, rest = body.partition(AFTER_EFFECTS)
            found = await run_in_threadpool(_forms, self._store, key, session)
            body = join([Markup(head), found, Markup(rest)] if place else [body, found])
        if session is not None and self._answers is not None:
            body = join([body, await run_in_threadpool(_pairs, self._answers, key, session)])
        return self._page(request, key, body, live=live)

    async def missing(self, request: Request, error: Exception) -> Response:
        """A page that does not exist."""
        del error
        body = join([element("h1", text("Not found")), _sentence("There is no such page.")])
        return self._page(request, "Not found", body, 404)

    async def _made(self, key: str | None) -> Markup | None:
        """The page of a rollout, or the list: one thread makes it, and none is needed when it is made."""
        if (ready := self._pages.ready(key)) is not None:
            return ready[0]
        async with self._making:
            if (ready := self._pages.ready(key)) is not None:
                return ready[0]
            if key is None:
                return await run_in_threadpool(self._pages.overview)
            return await run_in_threadpool(self._pages.rollout, key)

    async def events(self, request: Request) -> Response:
        """A line for every change of a page, as server-sent events; the page then fetches itself anew.

        The page is that of a rollout, or else the list.
        """
        key = request.query_params.get("rollout")

        async def changes() -> AsyncIterator[str]:
            known, silent_s = "", 0.0
            # Until the browser goes, which ends the answer.
            while True:
                version = self._pages.version(key)
                if version != known:
                    known, silent_s = version, 0.0
                    yield f"data: {version}\n\n"
                elif silent_s >= _ALIVE_EVERY_S:
                    silent_s = 0.0
                    yield ": nothing new\n\n"
                await asyncio.sleep(_LOOK_EVERY_S)
                silent_s += _LOOK_EVERY_S

        return StreamingResponse(changes(), media_type="text/event-stream")

    async def login_page(self, request: Request) -> Response:
        """The form that asks for the token."""
        return self._login(request, "")

    async def log_in(self, request: Request) -> Response:
        """Begin a session."""
        if self._sessions is None:
            return self._refused(request, "This dashboard is read-only. Start it with --operate.", 403)
        if not is_own_origin(request) or (said := await form(request)) is None:
            return self._refused(request, "This form did not come from this page.", 403)
        if self._sessions.is_locked():
            return self._refused(request, "Too many wrong tokens. Wait a minute.", 429)
        actor = said.get("actor", "").strip()[:_LONGEST_ACTOR]
        if not actor:
            return self._login(request, "Say who you are: the history of a rollout names who changed it.", 400)
        session_id = self._sessions.open(said.get("token", ""), actor)
        if session_id is None:
            return self._login(request, "The token is wrong.", 403)
        answer = RedirectResponse("/", 303)
        secure = request.url.scheme == "https"
        answer.set_cookie(_COOKIE, session_id, httponly=True, samesite="strict", secure=secure)
        return answer

    async def log_out(self, request: Request) -> Response:
        """End a session."""
        if self._sessions is not None and is_own_origin(request):
            self._sessions.close(request.cookies.get(_COOKIE))
        answer = RedirectResponse("/", 303)
        answer.delete_cookie(_COOKIE)
        return answer

    async def operate(self, request: Request) -> Response:
        """Change a rollout."""
        session = self._session(request)
        if session is None or self._store is None:
            return self._refused(request, "Log in first: only who knows the token may operate.", 403)
        if not is_own_origin(request) or (said := await form(request)) is None:
            return self._refused(request, "This form did not come from this page. Nothing was changed.", 403)
        key = said.get("key", "")
        if not session.redeem(said.get("ticket", ""), key):
            return self._refused(request, "This form was sent before, or is too old. Nothing was changed by it now.", 409, key)
        try:
            await run_in_threadpool(change, self._store, key, session.actor, said)
        except ConflictError as error:
            return self._refused(request, f"{error} Look at the page again before you decide.", 409, key)
        except StoreError as error:
            return self._refused(request, str(error), 503, key)
        except RolloutError as error:
            return self._refused(request, str(error), 400, key)
        return RedirectResponse(_address(key), 303)

    async def audit(self, request: Request) -> Response:
        """A pair of answers, for a person to say which is better."""
        session, key = self._session(request), request.path_params["key"]
        if session is None or self._answers is None:
            return self._refused(request, "Log in first: only who knows the token sees answers.", 403)
        try:
            body = await run_in_threadpool(self._answers.page, key, session)
        except RolloutError as error:
            return self._refused(request, str(error), 503, key)
        return self._page(request, f"Answers of {key}", body)

    async def label(self, request: Request) -> Response:
        """Record what a person said about a pair, and show the next."""
        session = self._session(request)
        if session is None or self._answers is None:
            return self._refused(request, "Log in first: only who knows the token labels answers.", 403)
        if not is_own_origin(request) or (said := await form(request)) is None:
            return self._refused(request, "This form did not come from this page. Nothing was recorded.", 403)
        key, decision, candidate = (said.get(name, "") for name in ("key", "id", "candidate"))
        if not session.redeem(said.get("ticket", ""), subject(key, decision, candidate)):
            return self._refused(request, "This form was sent before, or is too old. Nothing was recorded by it now.", 409, key)
        try:
            await run_in_threadpool(self._answers.label, key, decision, candidate, said.get("better", ""))
        except ConflictError as error:
            return self._refused(request, str(error), 409, key)
        except (JournalError, StoreError) as error:
            return self._refused(request, str(error), 503, key)
        except RolloutError as error:
            return self._refused(request, str(error), 400, key)
        return RedirectResponse(f"/audit/{quote(key, safe='')}", 303)

    def _session(self, request: Request) -> Session | None:
        return None if self._sessions is None else self._sessions.find(request.cookies.get(_COOKIE))

    def _page(
        self, request: Request, title: str, body: Markup, status: int = 200, *, live: tuple[str, str] | None = None
    ) -> Response:
        """A whole page; or what is in it, for a page that replaces it.

        A live page has a version, which was read before the page was made, and the address that tells of others.
        """
        if request.headers.get("x-fragment"):
            return HTMLResponse(body, status)
        marks = () if live is None else zip(("version", "events"), live, strict=True)
        head = join([_HEAD, *(element("meta", name=name, content=content) for name, content in marks)])
        return HTMLResponse(document(title, body, head=head, corner=self._corner(self._session(request))), status)

    def _corner(self, session: Session | None) -> Markup:
        if self._sessions is None:
            return element("span", text("read-only"), class_="muted")
        if session is None:
            return element("a", text("Operate"), href="/login")
        return element("form", element("button", text(f"Log out {session.actor}")), method="post", action="/logout")

    def _login(self, request: Request, wrong: str, status: int = 200) -> Response:
        if self._sessions is None:
            return self._refused(request, "This dashboard is read-only. Start it with --operate.", 404)
        body = element(
            "form",
            element("h1", text("Operate")),
            element("p", text(wrong), class_="bad word", role="alert") if wrong else Markup(""),
            element(
                "label",
                text("You "),
                element("input", name="actor", required=True, maxlength=_LONGEST_ACTOR, autocomplete="username"),
            ),
            element(
                "label",
                text("Token "),
                element("input", name="token", type="password", required=True, autocomplete="current-password"),
            ),
            element("button", text("Log in"), class_="button"),
            method="post",
            action="/login",
            class_="login",
        )
        return self._page(request, "Operate", body, status)

    def _refused(self, request: Request, why: str, status: int, key: str = "") -> Response:
        body = [element("h1", text("Not done")), element("p", text(why), role="alert")]
        if key:
            body.append(element("p", element("a", text("Back to the rollout"), href=_address(key))))
        return self._page(request, "Not done", join(body), status)


_HEAD = join(
    [element("link", rel="stylesheet", href="/style.css"), element("script", src="/page.js", defer=True)],
)


def _forms(store: StateStore, key: str, session: Session) -> Markup:
    try:
        with StoredRollout(store, key) as rollout:
            return forms(rollout.status(), session)
    except RolloutError as error:
        return element("section", element("h2", text("Operate")), _sentence(str(error)), class_="operate")


def _pairs(answers: Answers, key: str, session: Session) -> Markup:
    try:
        return answers.block(key, session.actor)
    except RolloutError as error:
        return _sentence(str(error))


def _sentence(why: str) -> Markup:
    return element("p", text(why))


def _address(key: str) -> str:
    return f"/rollout/{quote(key, safe='')}"


def _style(request: Request) -> Response:
    del request
    return Response(STYLE_SHEET, media_type="text/css", headers={"cache-control": "max-age=3600"})


def _script(request: Request) -> Response:
    del request
    return Response(_SCRIPT, media_type="text/javascript", headers={"cache-control": "max-age=3600"})
