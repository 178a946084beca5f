"""Addresses of Redis: one server, a master behind Sentinels, or a cluster, each with or without TLS."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from attrs import field, frozen
from redis import Redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.connection import ConnectionPool, SSLConnection, parse_url
from redis.retry import Retry
from redis.sentinel import Sentinel

from rollout_sdk import ConfigurationError
from rollout_sdk.control.stores import checked_timeout

__all__ = ["SCHEMES", "Address"]

SCHEMES = ("redis", "rediss", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster")
_PORTS = {"": 6379, "sentinel": 26379, "cluster": 6379}


@frozen
class Address:
    """A parsed address.

    Attributes:
        shown: The address without login and options, for messages.
        kind: "" for one server, "sentinel" or "cluster".
        hosts: Host and port of the servers; with "sentinel", of the Sentinels.
        service: Name of the master that the Sentinels watch.
        options: Options of each connection: login, database, TLS.
        sentinel_options: Options of the connections to the Sentinels.
        timeout_s: Seconds that a method of the store may wait.
        namespace: Prefix of all keys.
    """

    shown: str
    kind: str
    hosts: tuple[tuple[str, int], ...]
    service: str
    options: dict[str, Any] = field(repr=False)
    sentinel_options: dict[str, Any] = field(repr=False)
    timeout_s: float
    namespace: str

    @classmethod
    def parse(cls, url: str, *, timeout_s: float, namespace: str) -> Address:
        """Parse an address.

        Raises:
            ConfigurationError: It is not an address of Redis. The message shows neither login nor options.
        """
        parts = urlsplit(url)
        if parts.scheme not in SCHEMES or not parts.netloc:
            raise ConfigurationError(
                f"The address of a store has the scheme {parts.scheme!r:.40}. It must be one of {', '.join(SCHEMES)}, followed "
                "by '://' and a host. Write redis://host:6379/0, or redis+sentinel://host:26379,host:26379/name-of-the-master."
            )
        protocol, _, kind = parts.scheme.partition("+")
        login, _, hosts = parts.netloc.rpartition("@")
        shown = f"{parts.scheme}://{hosts}{parts.path}"
        query = dict(parse_qsl(parts.query))
        service, _, database = parts.path.strip("/").partition("/") if kind == "sentinel" else ("", "", parts.path.strip("/"))
        if kind == "sentinel" and not service:
            raise ConfigurationError(
                f"The address {shown!r} names no master. Write redis+sentinel://host:26379/name-of-the-master."
            )
        timeout_s = checked_timeout(shown, query.pop("timeout_s", timeout_s))
        try:
            namespace = query.pop("namespace", namespace)
            sentinel = {name: query.pop(f"sentinel_{name}") for name in ("username", "password") if f"sentinel_{name}" in query}
            if database and not database.isdecimal():
                raise ValueError(f"the database {database!r} is not a number")
            options = parse_url(f"{protocol}://{login}{'@' if login else ''}host/{database}?{urlencode(query)}")
            options = {name: value for name, value in options.items() if name != "host"}
            servers = tuple(_host(host, _PORTS[kind]) for host in hosts.split(","))
        except ValueError as error:
            raise ConfigurationError(
                f"The address {shown!r} cannot be parsed: {error}. Host, port, number of the database and options must be as "
                "redis-py expects them. Correct it."
            ) from error

        if not namespace or "{" in namespace or "}" in namespace:
            raise ConfigurationError(
                f"The store {shown!r} has the namespace {namespace!r:.40}. It must be a text without braces, because it is the "
                "hash tag of all keys. Write namespace=rollout."
            )
        if not kind and len(servers) > 1:
            raise ConfigurationError(
                f"The address {shown!r} names {len(servers)} servers. Only a cluster or Sentinels have several. "
                "Write redis+cluster:// or redis+sentinel://."
            )
        common = _common_options(options, timeout_s)
        return cls(shown, kind, servers, service, options | common, sentinel | common, timeout_s, namespace)

    def connect(self) -> Redis | RedisCluster:
        """Create a client. Only a cluster's client connects here.

        Raises:
            RedisError: A cluster does not answer.
        """
        options = dict(self.options)
        if self.kind == "cluster":
            retry = options.pop("retry")
            options.pop("db", None)
            nodes = [ClusterNode(host, port) for host, port in self.hosts]
            return RedisCluster(startup_nodes=nodes, retry=retry, **options)
        if self.kind == "sentinel":
            found: Redis = Sentinel(list(self.hosts), sentinel_kwargs=self.sentinel_options, **options).master_for(self.service)
            return found
        host, port = self.hosts[0]
        if options.pop("ssl", False):
            options["connection_class"] = SSLConnection
        return Redis(connection_pool=ConnectionPool(host=host, port=port, **options))


def _common_options(options: dict[str, Any], timeout_s: float) -> dict[str, Any]:
    """Move the options that connections to Sentinels have as well out of `options`: TLS and time-outs."""
    # Without retries: after an error, the next poll tries again.
    common: dict[str, Any] = {"retry": Retry(NoBackoff(), 0)}
    for name in ("socket_timeout", "socket_connect_timeout"):
        common[name] = min(timeout_s / 2, options.pop(name, None) or timeout_s)
    for name in ("retry_on_timeout", "retry_on_error"):
        options.pop(name, None)
    options.setdefault("protocol", 2)
    common |= {name: options.pop(name) for name in list(options) if name.startswith("ssl_")}
    if options.pop("connection_class", None) is SSLConnection:
        common["ssl"] = True
    return common


def _host(text: str, port: int) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise ValueError("a host is missing")
    return unquote(parts.hostname), parts.port or port
