"""Causes and cures of Postgres errors, for messages."""

from __future__ import annotations

import psycopg
from psycopg import errors

__all__ = ["cause_of", "cure_of"]

_LONGEST_CAUSE = 200
# Subclasses first.
_CURES: tuple[tuple[tuple[type[Exception], ...], str], ...] = (
    ((errors.InvalidPassword, errors.InvalidAuthorizationSpecification), "Correct the user and the password in its address."),
    (
        (errors.InsufficientPrivilege,),
        "Let its user create the schema, or have an administrator run the output of `python -m rollout_sdk_postgres`.",
    ),
    ((errors.ReadOnlySqlTransaction,), "It is a replica. Name both servers, and target_session_attrs=read-write."),
    (
        (errors.UndefinedTable, errors.InvalidSchemaName, errors.UndefinedColumn),
        "The schema was removed or changed; the next process that writes creates it.",
    ),
    ((psycopg.OperationalError, OSError), "Check the server, the network and the address; the store is tried again."),
    ((psycopg.Error,), "Check the server's log."),
)


def cure_of(error: Exception) -> str:
    """Return what to do about an error, in one sentence."""
    for kinds, cure in _CURES:
        if isinstance(error, kinds):
            return cure
    return "The stored data was written by another program, or is damaged. Correct the address or the schema."


def cause_of(error: Exception) -> str:
    """Return an error's type and message, in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:_LONGEST_CAUSE].rstrip(".")
