"""What can be done about an error of Postgres."""

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
        "Let its user make the schema, or have an administrator run what `python -m rollout_sdk_postgres` prints.",
    ),
    ((errors.ReadOnlySqlTransaction,), "It is a replica. Name both servers, and target_session_attrs=read-write."),
    (
        (errors.UndefinedTable, errors.InvalidSchemaName, errors.UndefinedColumn),
        "The schema was removed or changed; the next process that writes makes it.",
    ),
    ((psycopg.OperationalError, OSError), "See to the server, the network and the address; it is asked again."),
    ((psycopg.Error,), "See to the server's log."),
)


def cure_of(error: Exception) -> str:
    """What to do about an error, in one sentence."""
    for kinds, cure in _CURES:
        if isinstance(error, kinds):
            return cure
    return "What is stored there was written by something else, or is damaged. Correct the address or the schema."


def cause_of(error: Exception) -> str:
    """What an error says, in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:_LONGEST_CAUSE].rstrip(".")
