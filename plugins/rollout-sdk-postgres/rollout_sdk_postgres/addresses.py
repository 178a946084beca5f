"""Addresses of Postgres: libpq's URIs, with three options of our own."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import psycopg
from attrs import field, frozen
from psycopg.conninfo import conninfo_to_dict

from rollout_sdk import ConfigurationError
from rollout_sdk.control.stores import checked_timeout

__all__ = ["DEFAULT_SCHEMA", "SCHEMES", "Address", "validated_schema"]

SCHEMES = ("postgresql", "postgres")
DEFAULT_SCHEMA = "rollout_sdk"

_SHORTEST_CONNECT_TIMEOUT_S = 2
_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,62}")


@frozen
class Address:
    """A parsed address.

    Attributes:
        shown: The address without login and options, for messages.
        options: libpq's options.
        listening: libpq's options for the connection that listens; None: there is none.
        timeout_s: Seconds that the server may take to answer.
        schema: The schema of all tables.
    """

    shown: str
    options: dict[str, Any] = field(repr=False)
    listening: dict[str, Any] | None = field(repr=False)
    timeout_s: float
    schema: str

    @classmethod
    def parse(cls, url: str, *, timeout_s: float, schema: str) -> Address:
        """Parse an address.

        Raises:
            ConfigurationError: It is not an address of Postgres. The message shows neither login nor options.
        """
        parts = urlsplit(url)
        if parts.scheme not in SCHEMES:
            raise ConfigurationError(
                f"The address of a store has the scheme {parts.scheme!r:.40}. It must be postgresql or postgres. "
                "Write postgresql://user:password@host:5432/database."
            )
        shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        timeout_s = checked_timeout(shown, query.pop("timeout_s", timeout_s))
        schema, listen = validated_schema(query.pop("schema", schema)), query.pop("listen", "")
        # libpq's own message may contain a part of the password.
        try:
            options: dict[str, Any] = conninfo_to_dict(parts._replace(query=urlencode(query, quote_via=quote)).geturl())
        except psycopg.Error:
            raise ConfigurationError(
                f"The address {shown!r} cannot be parsed. It must be a libpq URI, with special characters in user and password "
                "percent-encoded; its options are those of libpq, timeout_s, schema and listen. Correct it."
            ) from None
        own = {"connect_timeout": max(_SHORTEST_CONNECT_TIMEOUT_S, round(timeout_s)), "application_name": "rollout_sdk"}
        # Without it, a database with the encoding SQL_ASCII returns bytes.
        options = own | options | {"client_encoding": "utf8"}
        return cls(shown, options, _listening(shown, options, listen), timeout_s, schema)


def validated_schema(schema: str) -> str:
    """Return the name of a schema, after validation: it is inserted into statements without quotes.

    Raises:
        ConfigurationError: It would have to be quoted.
    """
    if _SCHEMA.fullmatch(schema) is None:
        raise ConfigurationError(
            f"The schema of a store is {schema!r:.80}. It must be a name of small letters, digits and underscores. "
            f"Write schema={DEFAULT_SCHEMA}."
        )
    return schema


def _listening(shown: str, options: dict[str, Any], listen: str) -> dict[str, Any] | None:
    """Return the options of the connection that listens, which may bypass the pooler of the others."""
    if listen == "off":
        return None
    if not listen:
        return options
    host, separator, port = listen.rpartition(":")
    if not separator or not host or not port.isdecimal():
        raise ConfigurationError(
            f"The store {shown!r} has listen={listen!r:.80}. It must be the host and port of the server behind the pooler, or "
            "off. Write listen=db.internal:5432."
        )
    return {name: value for name, value in options.items() if name != "hostaddr"} | {"host": host, "port": port}
