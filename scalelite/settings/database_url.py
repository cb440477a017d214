"""`DATABASE_URL`: as Rails spells it, and as SQLAlchemy does."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal
from urllib.parse import unquote

import attrs

from scalelite.settings.listen import parse_host_port
from scalelite.settings.parse import Kind, Malformed

#: Scalelite's own, where the URL names none.
DEFAULT_DATABASE: Final = "scalelite"

# SQLAlchemy's spelling may name a driver, which is ours to choose.
_SCHEME: Final = re.compile(r"(postgres|postgresql|sqlite|sqlite3)(?:\+[a-z0-9_]+)?:", re.IGNORECASE)

#: Options that libpq takes in a URL or from Rails, except those that stand elsewhere in the URL or are ours to set.
_LIBPQ: Final = frozenset(
    """
    application_name channel_binding connect_timeout dbname fallback_application_name gssdelegation gssencmode
    gsslib host hostaddr keepalives keepalives_count keepalives_idle keepalives_interval krbsrvname
    load_balance_hosts options passfile password port require_auth requirepeer service sslcert sslcertmode
    sslcompression sslcrl sslcrldir sslkey sslmode sslnegotiation sslpassword sslrootcert sslsni
    ssl_max_protocol_version ssl_min_protocol_version target_session_attrs tcp_user_timeout user
    """.split()  # noqa: SIM905 - readable
)
#: Options of Rails for its own pool and adapter, without meaning here.
_OF_RAILS: Final = frozenset(
    """
    adapter advisory_locks checkout_timeout client_encoding collation encoding idle_timeout insert_returning
    keepalive max_age max_connections max_threads migrations_paths min_connections min_messages min_threads pool
    reaping_frequency reconnect schema_cache_path schema_dump statement_limit strict template timeout
    use_metadata_table variables
    """.split()  # noqa: SIM905 - readable
)
_SSL_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")


@attrs.frozen(kw_only=True)
class DatabaseURL:
    """What a `DATABASE_URL` says.

    `database` is PostgreSQL's name of it, or the path of SQLite's file. `options` are libpq's, host, port, user and
    password among them; several hosts are joined by commas, as libpq takes them. `ignored` names unknown options.
    """

    engine: Literal["postgresql", "sqlite"]
    database: str
    options: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    search_path: str | None = None
    prepare: bool = True
    ignored: tuple[str, ...] = ()


def read_database_url(text: str) -> DatabaseURL:
    """Read any of its forms. Raises `Malformed`, which never quotes the URL."""
    found = _SCHEME.match(text)
    if found is None:
        raise Malformed
    if "\0" in unquote(text):
        raise Malformed("it holds a NUL character")
    scheme, rest = found[1].lower(), text[found.end() :]
    if scheme.startswith("sqlite"):
        return _sqlite(scheme, rest)
    if not rest.startswith("//"):
        raise Malformed("after its scheme, // is missing")
    return _postgresql(rest[2:])


def rooted(text: str, root: Path) -> str:
    """The same URL, the path of an SQLite file taken from `root`."""
    url = read_database_url(text)
    if url.engine != "sqlite" or Path(url.database).is_absolute():
        return text
    return sqlite_url(root.absolute() / url.database)


def sqlite_url(path: Path) -> str:
    """The URL of an SQLite file, whose path is absolute."""
    return f"sqlite:///{path}"


def _sqlite(scheme: str, rest: str) -> DatabaseURL:
    place, _, query = rest.partition("?")
    if place.startswith("//"):
        authority, _, path = place[2:].partition("/")
        if authority:
            raise Malformed("a file's URL has three slashes after its scheme, or none")
        # Rails takes what follows the two slashes for absolute, SQLAlchemy has one more for that.
        place = f"/{path}" if scheme == "sqlite3" and path else path
    if not place or ":memory:" in place:
        raise Malformed("a database in memory cannot be shared between threads and processes; name a file")
    ignored = tuple(name for name, _ in _query(query) if name not in _OF_RAILS)
    return DatabaseURL(engine="sqlite", database=place, ignored=ignored)


def _postgresql(rest: str) -> DatabaseURL:
    head, _, query = rest.partition("?")
    # The last @ counts: a password may hold one, a host may not.
    login, _, place = head.rpartition("@")
    authority, _, path = place.partition("/")
    if "/" in path:
        raise Malformed("a / in the password or in the database's name is written %2F")
    options, others = _options(query)
    user, _, password = login.partition(":")
    hosts, ports = _hosts(authority)
    stated = {
        "user": unquote(user),
        "password": unquote(password),
        "host": hosts or options.get("host"),
        "port": ports if hosts else options.get("port"),
    }
    options |= {name: value for name, value in stated.items() if value}
    database = unquote(path) or options.pop("dbname", "") or DEFAULT_DATABASE
    options.pop("dbname", None)
    if options.get("sslmode", "prefer") not in _SSL_MODES:
        raise Malformed(f"sslmode is one of {', '.join(_SSL_MODES)}")
    if not re.fullmatch(r"[0-9]{1,6}", options.get("connect_timeout", "0")):
        raise Malformed("connect_timeout is a number of seconds")
    return DatabaseURL(
        engine="postgresql",
        database=database,
        options=MappingProxyType(options),
        search_path=others.pop("schema_search_path", None),
        prepare=others.pop("prepared_statements", "true").lower() not in {"false", "f", "0", "off"},
        ignored=tuple(others),
    )


def _hosts(authority: str) -> tuple[str, str]:
    """Hosts and ports, as libpq takes several; an encoded path is the folder of a UNIX socket."""
    hosts: list[str] = []
    ports: list[str] = []
    for item in authority.split(",") if authority else ():
        plain = unquote(item)
        if plain.startswith("/"):
            folder, colon, port = plain.partition(":")
            if colon and not re.fullmatch(r"[0-9]{1,5}", port):
                raise Malformed("the port cannot be read")
            hosts.append(folder)
            ports.append(port)
            continue
        try:
            host, number = parse_host_port(item, 5432)
        except Malformed as error:
            raise Malformed(f"{error}; :, /, ?, # and @ in a password are written by %") from None
        hosts.append(host)
        ports.append("" if number == 5432 else str(number))
    return ",".join(hosts), ",".join(ports) if any(ports) else ""


def _options(query: str) -> tuple[dict[str, str], dict[str, str]]:
    """Libpq's options, and all others except those of Rails that mean nothing here; the last of each name counts."""
    known: dict[str, str] = {}
    others: dict[str, str] = {}
    hosts: list[str] = []
    for name, value in _query(query):
        if name == "host":
            # SQLAlchemy repeats it for several hosts.
            hosts.append(value)
        elif name == "username":
            known["user"] = value
        elif name == "database":
            known["dbname"] = value
        elif name in _LIBPQ:
            known[name] = value
        elif name not in _OF_RAILS:
            others[name] = value
    if hosts:
        pairs = [_host_option(item) for value in hosts for item in value.split(",")]
        known["host"] = ",".join(host for host, _ in pairs)
        if any(port for _, port in pairs):
            known["port"] = ",".join(port for _, port in pairs)
    return known, others


def _host_option(text: str) -> tuple[str, str]:
    if text.startswith("/") or text.count(":") != 1:
        return text, ""
    host, _, port = text.partition(":")
    if not re.fullmatch(r"[0-9]{0,5}", port):
        raise Malformed("the port of a host cannot be read")
    return host, port


def _query(query: str) -> list[tuple[str, str]]:
    pairs = (item.partition("=") for item in query.split("&") if item)
    return [(unquote(name), unquote(value)) for name, _, value in pairs]


def _read(text: str) -> str:
    read_database_url(text)
    return text


database_url_kind: Kind[str] = Kind("URL such as `postgresql://user:password@host:5432/database`", _read)
