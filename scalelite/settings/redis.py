"""How to reach Redis: the connection's settings and the URL forms they are read from."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

import attrs

from scalelite.settings.listen import parse_host_port
from scalelite.settings.parse import Kind, Malformed
from scalelite.settings.variables import MASK

DEFAULT_NAMESPACES = {
    "production": "scalelite",
    "development": "scalelite_development",
    "test": "scalelite_test",
}
_MAX_DATABASE = 1_000_000


def _mask(value: str | None) -> str:
    return repr(MASK if value else value)


@attrs.frozen(kw_only=True)
class RedisSettings:
    """The Redis connection: TCP (`host`, `port`), the UNIX socket `unix_path`, or a master named by Sentinels.

    `configured` is False where the embedded store is to be used: outside production, when neither a variable
    nor `config/redis_store.yml` names a server. In production the unnamed server is the one at localhost:6379.
    `username` and `password` are for the data server; Sentinels get `sentinel_password` alone.
    """

    url: str | None = attrs.field(default=None, repr=_mask)
    host: str = "localhost"
    port: int = 6379
    db: int = 0
    username: str | None = None
    password: str | None = attrs.field(default=None, repr=_mask)
    tls: bool = False
    ca_file: str | None = None
    unix_path: str | None = None
    sentinels: tuple[tuple[str, int], ...] = ()
    sentinel_name: str | None = None
    sentinel_password: str | None = attrs.field(default=None, repr=_mask)
    #: Connections in the pool.
    pool: int = 5
    #: Seconds to wait for a free connection.
    pool_timeout: float = 5.0
    namespace: str = "scalelite"
    configured: bool = False

    @property
    def prefix(self) -> str:
        """What every key begins with: the namespace and a colon, or nothing without a namespace."""
        return f"{self.namespace}:" if self.namespace else ""

    def describe(self, *, show_secrets: bool = False) -> str:
        """The connection as one URL, its password masked unless `show_secrets`."""
        login = ""
        if self.password:
            password = quote(self.password, safe="") if show_secrets else MASK
            login = f"{quote(self.username or '', safe='')}:{password}@"
        tls = "s" if self.tls else ""
        if self.sentinels:
            hosts = ",".join(_place(host, port) for host, port in self.sentinels)
            return f"redis{tls}+sentinel://{login}{hosts}/{self.sentinel_name}/{self.db}"
        if self.unix_path:
            return f"unix://{login}{self.unix_path}?db={self.db}"
        return f"redis{tls}://{login}{_place(self.host, self.port)}/{self.db}"


def parse_redis_url(text: str) -> RedisSettings:
    """Read any of the URL forms of `REDIS_URL`. Raises `Malformed`, which never quotes the URL."""
    scheme, separator, rest = text.partition("://")
    scheme = scheme.lower()
    if not separator:
        raise Malformed("it has no scheme")
    # The last @ counts: a password may hold one, a host may not.
    login, at, place = rest.rpartition("@")
    username, password = _read_login(login) if at else (None, None)
    place, _, query = place.partition("?")
    base = RedisSettings(url=text, username=username, password=password, configured=True)
    options = _read_query(query)
    if scheme in {"unix", "redis+unix"}:
        if not place.startswith("/"):
            raise Malformed("the socket's path must be absolute")
        return attrs.evolve(base, unix_path=unquote(place), db=_read_db(options.get("db", "")))
    authority, _, path = place.partition("/")
    if scheme in {"redis", "rediss"}:
        # Without a host, redis-rb means the local one.
        host, port = parse_host_port(authority or "localhost", 6379)
        db = _read_db(path or options.get("db", ""))
        return attrs.evolve(base, host=host, port=_usable(port), db=db, tls=scheme == "rediss")
    if scheme in {"redis+sentinel", "rediss+sentinel"}:
        name, _, db_text = path.partition("/")
        if not name:
            raise Malformed("the master's name is missing after the Sentinels")
        sentinels = tuple(_sentinel(item) for item in authority.split(",") if item)
        if not sentinels:
            raise Malformed("no Sentinel is named")
        return attrs.evolve(
            base,
            sentinels=sentinels,
            sentinel_name=unquote(name),
            db=_read_db(db_text or options.get("db", "")),
            tls=scheme == "rediss+sentinel",
        )
    raise Malformed("its scheme is unknown")


def _place(host: str, port: int) -> str:
    return f"{f'[{host}]' if ':' in host else host}:{port}"


def _sentinel(text: str) -> tuple[str, int]:
    host, port = parse_host_port(text, 26379)
    return host, _usable(port)


def _usable(port: int) -> int:
    if port == 0:
        raise Malformed("port 0 cannot be connected to")
    return port


def _read_login(login: str) -> tuple[str | None, str | None]:
    username, colon, password = login.partition(":")
    if not colon or not password:
        if username:
            raise Malformed("it has a user name but no password; a password alone is written :PASSWORD@")
        return None, None
    return unquote(username) or None, unquote(password)


def _read_query(query: str) -> dict[str, str]:
    options: dict[str, str] = {}
    for item in filter(None, query.split("&")):
        name, _, value = item.partition("=")
        if name != "db":
            raise Malformed("of options after '?' only db is known")
        options[name] = value
    return options


def _read_db(text: str) -> int:
    if not text:
        return 0
    if not re.fullmatch(r"[0-9]{1,7}", text) or int(text) > _MAX_DATABASE:
        raise Malformed("the database is not a number")
    return int(text)


redis_url: Kind[RedisSettings] = Kind(
    "URL `redis://[user:password@]host:port/db`, `rediss://…`, `unix:///path?db=0` "
    "or `redis+sentinel://[user:password@]host:port,host:port/name/db`",
    parse_redis_url,
)
