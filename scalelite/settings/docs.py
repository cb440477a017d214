"""The operator's page on configuration, made from the settings themselves: ``python -m scalelite.settings.docs``."""

# ruff: noqa: E501 - the rows of a Markdown table cannot be broken

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import attrs

from scalelite.settings.model import Settings
from scalelite.settings.render import as_text, plain
from scalelite.settings.variables import Variable, variables_of

_HEAD = """\
# Configuration

<!-- Made by `python -m scalelite.settings.docs > docs/configuration.md`; do not edit by hand. -->

Settings are environment variables, read once at start. `scalelite config` prints those in effect, with secrets masked.
Those without a mark are Scalelite's and mean what they mean there; those marked **ours** are of this program.

Rules that hold for all of them:

* White space around a value is dropped, and an **empty value means unset**. Scalelite reads an empty number as 0, an empty
  `URL_HOST` as no host at all, and an empty `LOADBALANCER_CHECKSUM_ALGORITHM` as no algorithm.
* **A value that cannot be read is refused at start**, where Scalelite takes what it can of it (`30abc` as 30, `abc` as 0).
  All problems are told at once, with the right form, and the exit status is 2.
* Switches are `true` or `false`, in any letter case; `no`, `off` and `0` mean `false`. Scalelite takes every other word,
  `yes` and `1` as well, for `false`; here such a word is refused.
* Where two names are given for one variable the first wins. Relative paths start at the working directory.

In production (`SCALELITE_ENV=production`) the program refuses to start without `SECRET_KEY_BASE`, and without
`LOADBALANCER_SECRET` or `LOADBALANCER_SECRETS` unless `MULTITENANCY_ENABLED` is `true`. Without `URL_HOST`, `REDIS_URL` or
`DATABASE_URL` it starts, with a warning for each.
"""

_TAIL = """
## `config/redis_store.yml`

The connection to Redis may stand in this file below the working directory instead, in a section per environment; what is
in a section `shared` holds for all. A variable wins over the file.

```yaml
production:
  url: <%= ENV['REDIS_URL'] %>
  pool: <%= ENV.fetch('RAILS_MAX_THREADS', 5) %>
  pool_timeout: 5
  namespace: scalelite
```

| key | meaning |
|---|---|
| `url` | as `REDIS_URL` |
| `host`, `port`, `path` | the server, or its UNIX socket; over the parts of `url` |
| `db`, `username` (or `user`), `password` | over the parts of `url` |
| `ssl`, `ssl_params` with `ca_file` | TLS, and the certificate authorities trusted for it |
| `sentinels`, `name`, `sentinel_password` | list of `host` and `port` (26379) pairs; the master's name, else the host of `url`; the Sentinels' own password |
| `pool`, `pool_timeout` | connections; seconds to wait for a free one |
| `namespace` | key prefix; `namespace: ''` is the way to ask for none. Without the key the default of `REDIS_NAMESPACE` holds, with a warning, for Scalelite then uses no prefix |

* Of ERB, `<%= ENV['NAME'] %>`, `<%= ENV.fetch('NAME') %>` and `<%= ENV.fetch('NAME', 'default') %>` (or `{ 'default' }`) are
  understood; anything else is refused with its line. An empty variable counts as unset here, too.
* Where `REDIS_URL` names another place than the file does, the file's login is not used. Where the file names no place, or
  the same URL, the file fills what the URL leaves open.
* Other options of the Ruby client are without effect, and named in a warning.

## Read by Scalelite, but not here

`RAILS_MIN_THREADS`, `RAILS_SERVE_STATIC_FILES`, `PREPARED_STATEMENT`, `DB_DISABLED`, `DEFAULT_LOCALE`, `POLLER_THREADS` as a
number of threads. They may stay set.
"""


def generate() -> str:
    """The whole page, in Markdown."""
    return _HEAD + "".join(_tables()) + _TAIL


def _tables() -> Iterator[str]:
    group = ""
    for variable, default in documented_variables():
        if variable.group != group:
            group = variable.group
            yield f"\n## {group}\n\n| variable | value | default | meaning |\n|---|---|---|---|\n"
        yield _row(variable, default)


def documented_variables() -> Iterator[tuple[Variable, str]]:
    """Every variable in the order of the page, with its default in Markdown."""
    for attribute in attrs.fields(Settings):
        for variable in variables_of(attribute):
            if variable.default_text is not None:
                yield variable, variable.default_text
            elif isinstance(attribute.default, attrs.Factory):  # type: ignore[arg-type]  # a class at run time
                yield variable, "unset"
            else:
                yield variable, _default(variable, attribute.default)


def _default(variable: Variable, default: Any) -> str:
    value = plain(default, show_secrets=True)
    if value is None or value in ("", [], {}):
        return "unset"
    return f"`{as_text(value, variable.kind.joiner)}`"


def _row(variable: Variable, default: str) -> str:
    name = f"`{variable.name}`" + (" **ours**" if variable.ours else "")
    name += "".join(f", or `{alias}`" for alias in variable.aliases)
    form = f"{variable.kind.form}; {variable.unit}" if variable.unit else variable.kind.form
    meaning = f"{variable.help} {variable.note}".strip()
    return f"| {name} | {form} | {default} | {meaning} |\n"


if __name__ == "__main__":
    sys.stdout.write(generate())
