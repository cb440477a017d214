"""`config/redis_store.yml`: the Redis connection per environment, as Scalelite's file describes it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from scalelite.settings import parse
from scalelite.settings.erb import ErbError, expand
from scalelite.settings.listen import parse_host_port
from scalelite.settings.parse import Kind, Malformed
from scalelite.settings.problems import problem
from scalelite.settings.redis import RedisSettings, redis_url

FILE_NAME = "config/redis_store.yml"
_MAX_SIZE = 256 * 1024
_PLACE = frozenset({"url", "host", "port", "path", "sentinels", "name"})
_LOGIN = frozenset({"db", "username", "user", "password", "ssl", "ssl_params", "sentinel_password"})
_POOL = frozenset({"pool", "pool_timeout", "namespace"})
_KNOWN = _PLACE | _LOGIN | _POOL
_SECRETS = frozenset({"url", "password", "sentinel_password"})


def _read_socket_path(text: str) -> str:
    if not text.startswith("/"):
        raise Malformed
    return text


_socket_path: Kind[str] = Kind("absolute path of a UNIX socket", _read_socket_path)


@attrs.frozen
class StoreFile:
    """What the file says for one environment, checked; None where it is silent.

    `place` is where the server is, `fields` the further `RedisSettings` fields of the connection.
    """

    url: str | None = attrs.field(default=None, repr=False)
    place: RedisSettings | None = None
    fields: Mapping[str, Any] = attrs.field(factory=dict, repr=False)
    pool: int | None = None
    pool_timeout: float | None = None
    #: The empty text stands for no prefix at all.
    namespace: str | None = None
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def connection(self, from_variable: RedisSettings | None) -> RedisSettings:
        """The connection, with `REDIS_URL` (None if unset) before the file.

        Where the variable names another place than the file, the file's login must not be sent there: then
        nothing of the file's connection counts. Else the file fills what the URL leaves open.
        """
        fields = dict(self.fields)
        if from_variable is None:
            redis = self.place or RedisSettings(configured="sentinels" in fields)
            named = self.place is not None
        elif self.place is None or self.url == from_variable.url:
            redis, named = from_variable, True
            if redis.password:
                fields.pop("username", None)
            fields = {name: value for name, value in fields.items() if not getattr(redis, name)}
        else:
            return from_variable
        redis = attrs.evolve(redis, **fields)
        if redis.sentinels and redis.sentinel_name is None and named:
            # redis-rb's manner: beside Sentinels the host of the URL is the master's name.
            return attrs.evolve(redis, sentinel_name=redis.host)
        return redis


def read_store_file(path: Path, environ: Mapping[str, str], environment: str) -> StoreFile:
    """Read the section of `environment`, over `shared`; an absent file says nothing.

    Faults are collected in `problems`, none of which quotes a secret.
    """
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(_MAX_SIZE + 1)
    except FileNotFoundError:
        return StoreFile()
    except (OSError, UnicodeDecodeError) as error:
        return _faulty(f"it cannot be read ({type(error).__name__})")
    if len(text) > _MAX_SIZE:
        return _faulty(f"it is larger than {_MAX_SIZE} bytes")
    try:
        expanded = expand(text, environ)
    except ErbError as error:
        return _faulty(*error.problems)
    try:
        section = _section(expanded, environment)
    except Malformed as error:
        return _faulty(str(error))
    return _Reader(section, path.parent.parent, environment).read()


def _faulty(*problems: str) -> StoreFile:
    return StoreFile(problems=tuple(f"{FILE_NAME}: {text}" for text in problems))


def _section(text: str, environment: str) -> dict[str, Any]:
    """The mapping for one environment; every scalar stays text, save the null."""
    # Imported here: only few installations have the file, and all would pay.
    import yaml

    class Loader(yaml.SafeLoader):
        """Knows no numbers, so that a password such as 0123 stays what it is."""

    Loader.yaml_implicit_resolvers = {
        first: [item for item in resolvers if item[0] in {"tag:yaml.org,2002:null", "tag:yaml.org,2002:merge"}]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    try:
        document = yaml.load(text, Loader)  # noqa: S506 - a SafeLoader with fewer types
    except yaml.MarkedYAMLError as error:
        # The library's own words may quote the text, and with it a password.
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise Malformed(f"line {line}: it is not valid YAML") from None
    except (yaml.YAMLError, RecursionError):
        raise Malformed("it is not valid YAML") from None
    section: dict[str, Any] = {}
    if document is None:
        return section
    if not isinstance(document, dict):
        raise Malformed("it must hold one section per environment")
    for name in ("shared", environment):
        part = document.get(name)
        if part is None:
            continue
        if not isinstance(part, dict):
            raise Malformed(f"the section {name!r} must hold `name: value` lines")
        section |= {_key(key): value for key, value in part.items() if value is not None}
    return section


def _key(key: object) -> str:
    return str(key).removeprefix(":")


class _Reader:
    def __init__(self, section: dict[str, Any], root: Path, environment: str) -> None:
        self._section = section
        self._root = root
        self._environment = environment
        self._problems: list[str] = []

    def read(self) -> StoreFile:
        url = self._section.get("url")
        return StoreFile(
            url=url.strip() if isinstance(url, str) else None,
            place=self._place(),
            fields=self._fields(),
            pool=self._value("pool", parse.whole(1, 10_000)),
            pool_timeout=self._value("pool_timeout", parse.decimal(0.01, 300)),
            namespace=self._namespace(),
            problems=tuple(self._problems),
            warnings=self._warnings(),
        )

    def _place(self) -> RedisSettings | None:
        place: RedisSettings | None = self._value("url", redis_url)
        read = {
            "host": self._value("host", parse.text_value),
            "port": self._value("port", parse.whole(1, 65_535)),
            "unix_path": self._value("path", _socket_path),
        }
        changes = {name: value for name, value in read.items() if value is not None}
        return attrs.evolve(place or RedisSettings(configured=True), **changes) if changes else place

    def _fields(self) -> dict[str, Any]:
        sentinels, sentinel_password = self._sentinels()
        read = {
            "db": self._value("db", parse.whole(0, 1_000_000)),
            "username": self._value("username", parse.text_value) or self._value("user", parse.text_value),
            "password": self._value("password", parse.secret_value),
            "tls": self._value("ssl", parse.boolean),
            "ca_file": self._ca_file(),
            "sentinels": sentinels,
            "sentinel_name": self._value("name", parse.text_value),
            "sentinel_password": self._value("sentinel_password", parse.secret_value) or sentinel_password,
        }
        return {name: value for name, value in read.items() if value is not None}

    def _sentinels(self) -> tuple[tuple[tuple[str, int], ...] | None, str | None]:
        listed = self._section.get("sentinels")
        if listed is None:
            return None, None
        form = "a list of `host:` and `port:` pairs"
        items = listed if isinstance(listed, list) else []
        sentinels: list[tuple[str, int]] = []
        password: str | None = None
        for item in items:
            entry = {_key(key): value for key, value in item.items()} if isinstance(item, dict) else {}
            text = item if isinstance(item, str) else f"{entry.get('host', '')}:{entry.get('port') or 26379}"
            try:
                sentinels.append(parse_host_port(text.strip(), 26379))
            except Malformed as error:
                self._problem("sentinels", text, form, str(error))
            if isinstance(entry.get("password"), str):
                password = password or entry["password"].strip() or None
        if not items:
            self._problem("sentinels", str(listed), form)
        return tuple(sentinels) or None, password

    def _ca_file(self) -> str | None:
        params = self._section.get("ssl_params")
        if not isinstance(params, dict):
            return None
        name = {_key(key): value for key, value in params.items()}.get("ca_file")
        if not isinstance(name, str):
            return None
        path = self._root / name
        if not path.is_file():
            self._problem("ssl_params.ca_file", name, parse.readable_file.form)
        return str(path)

    def _namespace(self) -> str | None:
        # Unlike everywhere else the empty text counts: it is how to ask for no prefix.
        value = self._section.get("namespace")
        if value is not None and not isinstance(value, str):
            self._problem("namespace", str(value), "text")
            return None
        return value.strip() if value is not None else None

    def _value(self, key: str, kind: Kind[Any]) -> Any:
        value = self._section.get(key)
        if value is None:
            return None
        if not isinstance(value, str):
            self._problem(key, str(value), kind.form)
            return None
        text = value.strip()
        if not text:
            return None
        try:
            return kind.read(text)
        except Malformed as error:
            self._problem(key, text, kind.form, str(error))
            return None

    def _problem(self, key: str, value: str, form: str, reason: str = "") -> None:
        name = f"{FILE_NAME}: {self._environment}.{key}"
        self._problems.append(problem(name, value, form, secret=key in _SECRETS, reason=reason))

    def _warnings(self) -> tuple[str, ...]:
        unknown = sorted(set(self._section) - _KNOWN)
        if not unknown:
            return ()
        return (f"{FILE_NAME}: without effect here: {', '.join(unknown)}.",)
