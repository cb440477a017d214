"""Reading the environment: every problem found in one go, and what an operator should be warned of."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from scalelite.settings import parse
from scalelite.settings.database_url import read_database_url, rooted
from scalelite.settings.model import Settings
from scalelite.settings.parse import Malformed, shown
from scalelite.settings.problems import SettingsError, problem
from scalelite.settings.redis import DEFAULT_NAMESPACES, RedisSettings
from scalelite.settings.redis_store import FILE_NAME, StoreFile, read_store_file
from scalelite.settings.variables import Variable, mask_items, variables_of

#: Fields fed by several variables, which have their own reading below.
_COMPOSED = frozenset({"loadbalancer_secrets", "redis"})
_MIN_POLLER_THREADS = 2


def load_settings(environ: Mapping[str, str], *, root: Path = Path(".")) -> Settings:
    """Read the settings from `environ` and from `config/redis_store.yml` below `root`, if there is one.

    Relative paths are taken from `root`. Raises `SettingsError` with every problem at once.
    """
    return _Loader(environ, root).load()


class _Loader:
    def __init__(self, environ: Mapping[str, str], root: Path) -> None:
        self._environ = environ
        self._root = root
        self._problems: list[str] = []
        self._warnings: list[str] = []

    def load(self) -> Settings:
        values: dict[str, Any] = {}
        declared: dict[str, Variable] = {}
        for attribute in attrs.fields(Settings):
            variables = variables_of(attribute)
            declared |= {variable.name: variable for variable in variables}
            if variables and attribute.name not in _COMPOSED:
                value = self._read(variables[0])
                if value is not None:
                    values[attribute.name] = value
        environment = values.setdefault("environment", "development")

        values["loadbalancer_secrets"] = parse.split_secrets(
            self._read(declared["LOADBALANCER_SECRET"]), self._read(declared["LOADBALANCER_SECRETS"])
        )
        if "checksum_algorithms" in values:
            values["outgoing_algorithm"] = parse.strongest(values["checksum_algorithms"])
        values["redis"] = self._redis(declared, environment, values.get("rails_max_threads"))
        self._settle_poller(values)
        if "FSAPI_PASSWORD" in self._environ:
            # The one variable that says something else when it is empty than when it is unset.
            values.setdefault("fsapi_password", "")

        settings = self._rooted(Settings(**values))
        self._check(settings)
        if self._problems:
            raise SettingsError(self._problems)
        return attrs.evolve(settings, warnings=tuple(self._warnings))

    def _text(self, name: str) -> str | None:
        return self._environ.get(name, "").strip() or None

    def _read(self, variable: Variable) -> Any:
        """The value of the first of the variable's names that is set, or None."""
        found = [(name, text) for name in (variable.name, *variable.aliases) if (text := self._text(name))]
        if not found:
            return None
        name, text = found[0]
        self._warnings += [
            f"{other} is ignored, for {name} is set and wins." for other, value in found[1:] if value != text
        ]
        try:
            value = variable.kind.read(text)
        except Malformed as error:
            text = mask_items(text) if variable.kind is parse.parameters else text
            self._problems.append(problem(name, text, variable.right_form, secret=variable.secret, reason=str(error)))
            return None
        if variable.kind is parse.readable_file:
            value = self._root / value
            if not os.access(value, os.R_OK) or not value.is_file():
                self._problems.append(problem(name, text, variable.right_form))
        return value

    def _redis(self, declared: Mapping[str, Variable], environment: str, threads: int | None) -> RedisSettings:
        """Each part from its variable, else from `config/redis_store.yml`, else the default."""
        file = read_store_file(self._root / FILE_NAME, self._environ, environment)
        self._problems += file.problems
        self._warnings += file.warnings
        redis = file.connection(self._read(declared["REDIS_URL"]))
        if redis.sentinels and redis.sentinel_name is None:
            self._problems.append(f"{FILE_NAME}: {environment}.name is unset: Sentinels need the master's name")
        if environment == "production" and not redis.configured:
            if not self._text("REDIS_URL"):
                self._warnings.append("REDIS_URL is unset: Redis is expected at localhost:6379.")
            redis = attrs.evolve(redis, configured=True)
        ca_file = self._read(declared["SCALELITE_REDIS_CA_FILE"])
        pool = self._read(declared["REDIS_POOL"]) or file.pool or threads
        sentinel_password = self._read(declared["SCALELITE_REDIS_SENTINEL_PASSWORD"])
        changes = {
            "ca_file": None if ca_file is None else str(ca_file),
            "pool": pool,
            "pool_timeout": self._read(declared["SCALELITE_REDIS_POOL_TIMEOUT"]) or file.pool_timeout,
            "sentinel_password": sentinel_password,
            "namespace": self._namespace(declared["REDIS_NAMESPACE"], file, environment),
        }
        return attrs.evolve(redis, **{name: value for name, value in changes.items() if value is not None})

    def _namespace(self, variable: Variable, file: StoreFile, environment: str) -> str:
        value: str | None = self._read(variable)
        if value is not None:
            return value
        if file.namespace is not None:
            return file.namespace
        default = DEFAULT_NAMESPACES[environment]
        if variable.name in self._environ:
            self._warnings.append(
                f"{variable.name} is empty: keys begin with '{default}:', where Scalelite uses no prefix. "
                f"For none, write namespace: '' in {FILE_NAME}."
            )
        elif file.place is not None:
            self._warnings.append(
                f"{FILE_NAME} has no namespace: keys begin with '{default}:', where Scalelite uses no prefix. "
                "For none, write namespace: ''."
            )
        return default

    def _settle_poller(self, values: dict[str, Any]) -> None:
        threads = values.get("poller_threads", _MIN_POLLER_THREADS)
        if threads < _MIN_POLLER_THREADS:
            self._warnings.append(f"POLLER_THREADS={threads} is too low; {_MIN_POLLER_THREADS} is used.")
            values["poller_threads"] = _MIN_POLLER_THREADS

    def _rooted(self, settings: Settings) -> Settings:
        """Relative paths taken from the root, those of the defaults as well."""
        log, keys, url = settings.access_log, settings.ssh_authorized_keys, settings.database_url
        return attrs.evolve(
            settings,
            data_dir=self._root / settings.data_dir,
            database_url=None if url is None else rooted(url, self._root),
            ssh_authorized_keys=None if keys is None else self._root / keys,
            access_log=log if log in {"-", "off"} else str(self._root / log),
        )

    def _check(self, settings: Settings) -> None:
        """What holds between variables, and what production insists on."""
        if settings.default_meeting_ttl < 2 * settings.poll_interval:
            self._warnings.append(
                "DEFAULT_MEETING_TTL is below two poll intervals: records of running meetings may expire."
            )
        if not settings.bbb_verify_tls:
            self._warnings.append("SCALELITE_BBB_VERIFY_TLS=false: the servers' certificates are not verified.")
        if settings.voice_bridge_min > settings.voice_bridge_max:
            self._problems.append(
                f"VOICE_BRIDGE_MIN={settings.voice_bridge_min} is above VOICE_BRIDGE_MAX={settings.voice_bridge_max}"
            )
        if settings.database_url is not None and not settings.db_disabled:
            self._check_database(settings.database_url, settings.environment)
        if settings.s3_recording and settings.s3_bucket_name is None and not self._text("S3_BUCKET_NAME"):
            self._problems.append("S3_BUCKET_NAME is unset: S3_RECORDING needs it.")
        if settings.cloudfront_url is not None:
            for name, value in (
                ("CF_KEY_PAIR_ID", settings.cf_key_pair_id),
                ("CF_PRIVATE_KEY_B64", settings.cf_private_key_b64),
            ):
                if value is None and not self._text(name):
                    self._problems.append(f"{name} is unset: CLOUDFRONT_URL needs it.")
        if not settings.dialin_password and (settings.fsapi_password == "" or settings.multitenancy_enabled):
            self._warnings.append(
                "FSAPI_PASSWORD is empty, or unset without a LOADBALANCER_SECRET: /fsapi answers without a password."
            )
        if settings.environment != "production":
            if not settings.multitenancy_enabled and not settings.loadbalancer_secrets:
                self._warnings.append("LOADBALANCER_SECRET is unset: every signed call will be refused.")
            return
        if settings.secret_key_base is None and not self._text("SECRET_KEY_BASE"):
            self._problems.append(
                "SECRET_KEY_BASE is unset: production needs a secret text of its own (openssl rand -hex 64)"
            )
        if not settings.loadbalancer_secrets and not settings.multitenancy_enabled:
            self._problems.append(
                "LOADBALANCER_SECRET is unset: production needs it, or LOADBALANCER_SECRETS, unless "
                "MULTITENANCY_ENABLED=true (openssl rand -hex 32)"
            )
        if settings.url_host is None and not self._text("URL_HOST"):
            self._warnings.append("URL_HOST is unset: requests for any host are answered (DNS rebinding).")
        if settings.api_secret is None and settings.loadbalancer_secrets and not settings.api_disabled:
            self._warnings.append(
                "SCALELITE_API_SECRET is unset: every front-end can administer the pool by the REST API, for it takes "
                "their secrets. Set one of its own (openssl rand -hex 32), or SCALELITE_API_DISABLED=true."
            )
        if settings.database_url is None and not self._text("DATABASE_URL"):
            self._warnings.append("DATABASE_URL is unset: no database for recordings is configured.")

    def _check_database(self, text: str, environment: str) -> None:
        url = read_database_url(text)
        if url.ignored:
            self._warnings.append(f"DATABASE_URL: unknown options are ignored: {', '.join(map(shown, url.ignored))}.")
        if url.engine == "sqlite" and environment == "production":
            self._warnings.append(
                "DATABASE_URL is an SQLite file: it serves one machine only, and Scalelite cannot take it over. "
                "PostgreSQL is meant for production."
            )
