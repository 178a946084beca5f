"""Where the token comes from, how the dashboard listens, and what it reads of a form."""

import asyncio
import os
import socket

import pytest
import uvicorn
from starlette.requests import Request

from rollout_sdk.dashboard.guard import form
from rollout_sdk.dashboard.serving import TOKEN_VARIABLE, serve, token_from
from rollout_sdk.dashboard.sessions import Sessions
from rollout_sdk.exceptions import ConfigurationError

from .conftest import TOKEN


class TestTheToken:
    @pytest.fixture
    def file(self, tmp_path):
        file = tmp_path / "token"
        file.write_text(f"{TOKEN}\n")
        return file

    @pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
    def test_is_read_from_a_file_of_its_owners(self, file, mode):
        file.chmod(mode)
        assert (TOKEN, False) == token_from(str(file))

    @pytest.mark.skipif(os.name != "posix", reason="only POSIX files have modes")
    @pytest.mark.parametrize("mode", [0o640, 0o620, 0o604, 0o602, 0o601, 0o610])
    def test_is_not_read_from_a_file_that_others_can_use(self, file, mode):
        file.chmod(mode)
        with pytest.raises(ConfigurationError, match=f"Others can read .*chmod 600 {file}"):
            token_from(str(file))

    def test_is_not_made_up_where_the_file_cannot_be_read(self, tmp_path):
        for path in (tmp_path / "none", tmp_path, "null\0"):
            with pytest.raises(ConfigurationError, match="cannot be read"):
                token_from(str(path))

    def test_is_that_of_the_environment_or_a_new_one_that_is_good(self, monkeypatch):
        monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
        assert (TOKEN, False) == token_from(None)
        monkeypatch.setenv(TOKEN_VARIABLE, "")
        (one, is_made_up), (other, _) = token_from(None), token_from(None)
        assert is_made_up
        assert one != other
        assert Sessions(one).open(one, "ann")

    def test_has_sixteen_characters_at_least(self):
        assert Sessions("x" * 16).open("x" * 16, "ann")
        with pytest.raises(ConfigurationError, match="has 15 characters"):
            Sessions("x" * 15)


class TestServing:
    @pytest.fixture
    def served(self, monkeypatch):
        """The sockets that were served, and whether a browser could connect by then."""
        found = []

        def run(server, sockets):
            at, number = sockets[0].getsockname()[:2]
            with socket.create_connection((at, number), 5.0):
                found.append((at, number))

        monkeypatch.setattr(uvicorn.Server, "run", run)
        return found

    def test_needs_nobody_to_be_told_the_address(self, served, tmp_path):
        serve(str(tmp_path), port=0)
        assert ["127.0.0.1"] == [at for at, _ in served]

    def test_tells_the_address_when_a_browser_can_open_it(self, served, tmp_path):
        told = []

        def started(address):
            number = int(address.rpartition(":")[2].rstrip("/"))
            with socket.create_connection(("127.0.0.1", number), 5.0):
                told.append(address)

        serve(str(tmp_path), port=0, started=started)
        assert [f"http://127.0.0.1:{number}/" for _, number in served] == told
        # And lets go of the port.
        with socket.socket() as again:
            again.bind(served[0])

    def test_brackets_an_address_of_version_6(self, served, tmp_path):
        try:
            socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        except OSError as error:
            pytest.skip(f"no IPv6 here: {error}")
        told = []
        serve(str(tmp_path), host="::1", port=0, started=told.append)
        assert [f"http://[::1]:{served[0][1]}/"] == told

    # Uvicorn leaves the socket that it could not bind to the garbage collector.
    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
    def test_says_that_a_port_is_taken(self, served, tmp_path):
        with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ConfigurationError, match="Another --port"):
            serve(str(tmp_path), port=taken.getsockname()[1])
        assert served == []


def read(*parts):
    """What is read of a form that comes in these parts."""
    messages = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    messages.append({"type": "http.request", "body": b"", "more_body": False})

    async def receive():
        return messages.pop(0)

    return asyncio.run(form(Request({"type": "http", "method": "POST", "headers": []}, receive)))


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (b"", {}),
        (b"a=1&b=", {"a": "1", "b": ""}),
        (b"a=1&a=2", {"a": "2"}),
        (b"a=%C3%A9+x", {"a": "\xe9 x"}),
        (b"a", None),
        (b"a=1&&b=2", None),
        ("a=\xe9".encode(), None),
        (b"&".join(b"%d=1" % number for number in range(20)), {str(number): "1" for number in range(20)}),
        (b"&".join(b"%d=1" % number for number in range(21)), None),
        (b"a=".ljust(16_384, b"x"), {"a": "x" * 16_382}),
        (b"a=".ljust(16_385, b"x"), None),
    ],
)
def test_a_form_has_few_fields_and_little_in_them(body, fields):
    assert fields == read(body) == read(body[:1], body[1:])
