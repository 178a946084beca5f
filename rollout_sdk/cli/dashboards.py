"""`rollout dashboard`: a journal as live pages in a browser."""

from __future__ import annotations

from contextlib import nullcontext

import click

from rollout_sdk.cli.options import examples, journal_argument, opened_store
from rollout_sdk.cli.output import fault, say
from rollout_sdk.exceptions import RolloutError

__all__ = ["COMMANDS"]


@click.command(
    epilog=examples(
        "rollout dashboard journal/",
        "rollout dashboard journal/ --store sqlite:///rollouts.db --operate",
        "ROLLOUT_JOURNAL=journal rollout dashboard --port 9000",
    )
)
@journal_argument
@click.option(
    "--store",
    "address",
    envvar="ROLLOUT_STORE",
    show_envvar=True,
    metavar="ADDRESS",
    help="Address of the store, for current states.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", default=8765, show_default=True, type=click.IntRange(0, 65_535), help="The port; 0: any free one.")
@click.option(
    "--allow-host", "hosts", multiple=True, metavar="NAME", help="A further host name that the page may be opened by."
)
@click.option("--operate", is_flag=True, help="Let people with the token operate rollouts. Needs --store.")
@click.option("--token-file", type=click.Path(), metavar="FILE", help="File with the token. [default: ROLLOUT_DASHBOARD_TOKEN]")
def dashboard(
    folder: str,
    address: str | None,
    host: str,
    port: int,
    hosts: tuple[str, ...],
    operate: bool,
    token_file: str | None,
) -> None:
    """Show a journal in a browser, live, until Ctrl-C.

    By default, the page can be opened on this machine only, and is read-only. --host listens on another address; with
    --operate, anyone with the token may promote, pause, resume, abort and set shares. Without ROLLOUT_DASHBOARD_TOKEN or
    --token-file, a token is generated and printed.
    """
    try:
        from rollout_sdk.dashboard.serving import serve, token_from
    except ImportError:
        raise click.ClickException(
            "The dashboard needs starlette and uvicorn. Run: pip install 'rollout-sdk[dashboard]'"
        ) from None
    if operate and address is None:
        raise click.UsageError("A rollout is operated through its store: give --store, or set ROLLOUT_STORE.")
    try:
        token, is_new = token_from(token_file) if operate else (None, False)
        if is_new:
            say(f"Token  {token}")
        with nullcontext() if address is None else opened_store(address) as store:
            serve(
                folder,
                store=store,
                token=token,
                host=host,
                port=port,
                hosts=hosts,
                started=lambda page: click.echo(f"Page   {page}  (Ctrl-C ends)"),
            )
    except RolloutError as error:
        raise fault(error) from None


COMMANDS = (dashboard,)
