"""The commands for tenants and their settings."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final, TypeVar

from scalelite.admin.console import confirm
from scalelite.admin.table import (
    FAILED,
    JSON,
    OK,
    SHOW_SECRETS,
    YES,
    Argument,
    Call,
    Command,
    Context,
    Failed,
    Flag,
)
from scalelite.admin.text import MASK, json_text, read_boolean, shown
from scalelite.cluster.tenants import LRS_FIELDS, LRS_SECRETS, SettingRecord, TenantRecord, Unfit
from scalelite.settings.variables import mask_parameters

T = TypeVar("T")

DISABLED: Final = "Multitenancy is disabled, task can not be completed"
ADD_INCOMPLETE: Final = "Error: both name and secrets are required to create a Tenant"
UPDATE_INCOMPLETE: Final = "Error: id and either name or secrets are required to update a Tenant"
BASIC_INCOMPLETE: Final = "Error: id, LRS_ENDPOINT, LRS_USERNAME, LRS_PASSWORD are required to update a Tenant"
KEYCLOAK_INCOMPLETE: Final = (
    "Error: LRS_ENDPOINT, KC_TOKEN_URL, KC_CLIENT_ID, KC_CLIENT_SECRET, KC_USERNAME, KC_PASSWORD are required to "
    "update a Tenant"
)
SETTING_INCOMPLETE: Final = "Error: tenant_id, param, value and override are required to create a TenantSetting"

BASIC_FIELDS: Final = ("lrs_endpoint", "lrs_username", "lrs_password")
KEYCLOAK_FIELDS: Final = (
    "lrs_endpoint",
    "kc_token_url",
    "kc_client_id",
    "kc_client_secret",
    "kc_username",
    "kc_password",
)
SECRETS_FROM_STDIN: Final = Flag("secrets-from-stdin", "Read the secrets from standard input.")

Run = Callable[[Context, Call], Coroutine[Any, Any, int]]


def _where_enabled(run: Run) -> Run:
    """A command that is for installations with tenants only."""

    async def checked(context: Context, call: Call) -> int:
        if not context.settings.multitenancy_enabled:
            context.console.err(DISABLED)
            return FAILED
        return await run(context, call)

    return checked


async def _done(work: Awaitable[T]) -> T:
    """The result of an operation. Raises Failed for what is the operator's mistake."""
    from scalelite.cluster.operations.tenants import NoSuchSetting, NoSuchTenant

    try:
        return await work
    except (NoSuchTenant, NoSuchSetting, Unfit) as error:
        raise Failed(shown(str(error))) from error


async def _typed(context: Context, call: Call, names: Sequence[str], missing: str) -> dict[str, str]:
    """Arguments of which `-` stands for a line of standard input, in this order. Raises Failed where one is empty."""
    values: dict[str, str] = {}
    for name in names:
        value = call.get(name)
        if value == "-" and not call.rake:
            value = (await context.console.read_secret(f"{name.replace('_', ' ').capitalize()}: ") or "").strip()
        if not value:
            raise Failed(missing)
        values[name] = value
    return values


async def list_tenants(context: Context, call: Call) -> int:
    """All tenants with their secrets and logins."""
    tenants = await context.pool.tenants.all()
    clear = call.has(SHOW_SECRETS) or call.rake
    if call.has(JSON):
        context.console.out(json_text([_as_json(t, clear=clear) for t in tenants]))
    else:
        lines = [line for tenant in tenants for line in _lines(tenant, clear=clear)]
        context.console.out("\n".join([*lines, f"Total number of tenants: {len(tenants)}"]))
    return OK


def _lines(tenant: TenantRecord, *, clear: bool) -> list[str]:
    return [
        f"id: {shown(tenant.id)}",
        f"\tname: {shown(tenant.name)}",
        f"\tsecrets: {_secrets(tenant.secrets, clear=clear)}",
        *(f"\t{field}: {_lrs(tenant, field, clear=clear)}" for field in LRS_FIELDS if field in tenant.lrs),
    ]


def _secrets(secrets: str, *, clear: bool) -> str:
    """Secrets, or how many there are: with a rotation going on, that is what an operator wants to see."""
    return shown(secrets) if clear else ":".join(MASK for secret in secrets.split(":") if secret)


def _lrs(tenant: TenantRecord, field: str, *, clear: bool) -> str:
    return MASK if field in LRS_SECRETS and not clear else shown(tenant.lrs[field])


def _as_json(tenant: TenantRecord, *, clear: bool) -> dict[str, Any]:
    secrets = [secret if clear else MASK for secret in tenant.secrets.split(":") if secret]
    lrs = {field: value if clear or field not in LRS_SECRETS else MASK for field, value in tenant.lrs.items()}
    return {"id": tenant.id, "name": tenant.name, "secrets": secrets, **lrs}


async def add_tenant(context: Context, call: Call) -> int:
    """Record a new tenant."""
    from scalelite.cluster.operations import tenants

    given = await _typed(context, call, ("name", "secrets"), ADD_INCOMPLETE)
    tenant_id = context.new_id()
    await _done(tenants.add_tenant(context.pool.tenants, tenant_id, given["name"], given["secrets"]))
    context.console.out(f"OK\nNew Tenant id: {tenant_id}")
    return OK


async def update_tenant(context: Context, call: Call) -> int:
    """Rename a tenant, or replace its secrets."""
    from scalelite.cluster.operations import tenants

    name, secrets = call.get("name"), call.get("secrets")
    if call.has(SECRETS_FROM_STDIN):
        secrets = (await context.console.read_secret("Secrets: ") or "").strip()
        if not secrets:
            raise Failed(UPDATE_INCOMPLETE)
    if not call.get("id") or not (name or secrets):
        raise Failed(UPDATE_INCOMPLETE)
    await _done(tenants.update_tenant(context.pool.tenants, call.get("id"), name=name, secrets=secrets))
    return _updated(context, call)


async def set_lrs_login(context: Context, call: Call) -> int:
    """Give a tenant a login to its learning record store."""
    from scalelite.cluster.operations import tenants

    fields = await _typed(context, call, BASIC_FIELDS, BASIC_INCOMPLETE)
    await _done(tenants.set_lrs_login(context.pool.tenants, call.get("id"), fields))
    return _updated(context, call)


async def set_lrs_token(context: Context, call: Call) -> int:
    """Let a tenant get tokens for its learning record store from Keycloak."""
    from scalelite.cluster.operations import tenants

    fields = await _typed(context, call, KEYCLOAK_FIELDS, KEYCLOAK_INCOMPLETE)
    before = await _done(tenants.find_tenant(context.pool.tenants, call.get("id")))
    await _done(tenants.set_lrs_token(context.pool.tenants, before.id, fields))
    if "lrs_username" in before.lrs:
        context.console.err("WARNING: LRS_USERNAME and LRS_PASSWORD were removed, for they would go on winning")
    return _updated(context, call)


def _updated(context: Context, call: Call) -> int:
    context.console.out(f"OK\nUpdated Tenant id: {call.get('id')}")
    return OK


async def remove_tenant(context: Context, call: Call) -> int:
    """Remove a tenant with its settings."""
    from scalelite.cluster.operations import tenants

    store, console = context.pool.tenants, context.console
    tenant = await _done(tenants.find_tenant(store, call.get("id") or ""))
    meetings = await store.count_meetings(tenant.id)
    # Scalelite never asks; a script goes on unless somebody is in a meeting.
    if meetings or not call.rake:
        question = f"WARNING: You are trying to remove the tenant {shown(tenant.name)} and its settings"
        if meetings:
            question += (
                f". It has {meetings} running meeting{'s' if meetings > 1 else ''}, which nobody could join then"
            )
        refused = await confirm(console, question, agreed=call.has(YES), piped=call.rake)
        if refused:
            return refused
    await _done(tenants.remove_tenant(store, tenant.id))
    console.out("Tenant was successfully deleted.")
    return OK


async def list_settings(context: Context, call: Call) -> int:
    """All tenants with their settings."""
    tenants = await context.pool.tenants.all()
    clear = call.has(SHOW_SECRETS) or call.rake
    if call.has(JSON):
        rows = [
            {"tenant": t.name, "tenant_id": t.id, "settings": [_setting_json(s, clear=clear) for s in t.settings]}
            for t in tenants
        ]
        context.console.out(json_text(rows))
        return OK
    for tenant in tenants:
        context.console.out(f"Tenant: {shown(tenant.name)}")
        for setting in tenant.settings:
            context.console.out(
                f"  id: {shown(setting.id)}\n\tparam: {shown(setting.param)}\n"
                f"\tvalue: {shown(_value(setting, clear=clear))}\n\toverride: {str(setting.override).lower()}"
            )
        if not tenant.settings:
            context.console.err("  No custom settings are configured")
    return OK


def _value(setting: SettingRecord, *, clear: bool) -> str:
    told = {setting.param: setting.value}
    return setting.value if clear or mask_parameters(told) == told else MASK


def _setting_json(setting: SettingRecord, *, clear: bool) -> dict[str, Any]:
    value = _value(setting, clear=clear)
    return {"id": setting.id, "param": setting.param, "value": value, "override": setting.override}


async def add_setting(context: Context, call: Call) -> int:
    """Let a tenant's calls have a parameter."""
    from scalelite.cluster.operations import tenants

    setting_id = context.new_id()
    replaced = await _done(
        tenants.add_setting(
            context.pool.tenants, setting_id, call.get("tenant_id"), call.get("param"), call.get("value"),
            override=call.get("override"),
        )
    )  # fmt: skip
    for other in replaced:
        context.console.err(f"WARNING: It replaces the setting {shown(other)} of the same parameter")
    context.console.out(f"OK\nNew TenantSetting id: {setting_id}")
    return OK


async def remove_setting(context: Context, call: Call) -> int:
    """Remove a setting."""
    from scalelite.cluster.operations import tenants

    await _done(tenants.remove_setting(context.pool.tenants, call.get("id") or ""))
    context.console.out("TenantSetting was successfully deleted.")
    return OK


def _text(name: str, help: str, *, required: bool = True, skippable: bool = False) -> Argument:
    return Argument(name, help, required, skippable=skippable)


TENANT_ID = _text("id", "The tenant's id, as `tenants` shows it.")
_FROM_STDIN = "; - reads it from standard input, so that it stays out of the history."

COMMANDS = (
    Command(
        "tenants",
        _where_enabled(list_tenants),
        "List the tenants with their secrets.\n\nSecrets are masked, save in the spelling of rake.",
        "tenants --show-secrets",
        flags=(SHOW_SECRETS, JSON),
        changes=False,
    ),
    Command(
        "tenants:add",
        _where_enabled(add_tenant),
        "Add a tenant.\n\nIts front-ends call NAME.URL_HOST and sign with any of its secrets.",
        "tenants:add school - < secrets.txt",
        (
            _text("name", "The first label of the host name that its front-ends call."),
            _text("secrets", f"Its secrets, joined by :{_FROM_STDIN}"),
        ),
        missing=ADD_INCOMPLETE,
    ),
    Command(
        "tenants:update",
        _where_enabled(update_tenant),
        "Rename a tenant, or replace its secrets.\n\n"
        "To change a secret without a break, give the new and the old one, then the new one alone.",
        "tenants:update ID - --secrets-from-stdin < secrets.txt",
        (
            TENANT_ID,
            _text("name", "Its new name; - leaves it.", required=False, skippable=True),
            _text("secrets", "All its secrets, joined by :; - leaves them.", required=False, skippable=True),
        ),
        (SECRETS_FROM_STDIN,),
        missing=UPDATE_INCOMPLETE,
    ),
    Command(
        "tenants:update_lrs_basic",
        _where_enabled(set_lrs_login),
        "Give a tenant a login to its learning record store.",
        "tenants:update_lrs_basic ID https://lrs.example.com/xapi user - < password.txt",
        (
            TENANT_ID,
            _text("lrs_endpoint", "URL of the store."),
            _text("lrs_username", "User there."),
            _text("lrs_password", f"Password{_FROM_STDIN}"),
        ),
        missing=BASIC_INCOMPLETE,
    ),
    Command(
        "tenants:update_lrs_kc",
        _where_enabled(set_lrs_token),
        "Let a tenant get tokens for its learning record store from Keycloak.\n\nThis removes a login that it has.",
        "tenants:update_lrs_kc ID https://lrs.example.com/xapi https://kc.example.com/token client - user - < lines",
        (
            TENANT_ID,
            _text("lrs_endpoint", "URL of the store."),
            _text("kc_token_url", "URL that gives out tokens."),
            _text("kc_client_id", "Id of the client."),
            _text("kc_client_secret", f"Secret of the client{_FROM_STDIN}"),
            _text("kc_username", "User of Keycloak."),
            _text("kc_password", f"Password{_FROM_STDIN}"),
        ),
        missing=KEYCLOAK_INCOMPLETE,
    ),
    Command(
        "tenants:remove",
        _where_enabled(remove_tenant),
        "Remove a tenant with its settings.\n\nIts recordings stay.",
        "tenants:remove ID --yes",
        (TENANT_ID,),
        (YES,),
        destructive=True,
    ),
    Command(
        "tenantSettings",
        _where_enabled(list_settings),
        "List the tenants with their settings.\n\nPasswords are masked, save in the spelling of rake.",
        "tenantSettings --json",
        flags=(SHOW_SECRETS, JSON),
        changes=False,
    ),
    Command(
        "tenantSettings:add",
        _where_enabled(add_setting),
        "Give a tenant's create and join calls a parameter.\n\n"
        "It takes the place of a setting of the same parameter and kind.",
        "tenantSettings:add ID logo https://school.example.com/logo.png false",
        (
            _text("tenant_id", "The tenant's id, as `tenants` shows it."),
            _text("param", "Name of the parameter."),
            _text("value", "Its value."),
            Argument("override", "true: over what the client says; false: where it says nothing.", True, read_boolean),
        ),
        missing=SETTING_INCOMPLETE,
    ),
    Command(
        "tenantSettings:remove",
        _where_enabled(remove_setting),
        "Remove a tenant's setting.",
        "tenantSettings:remove SETTING_ID",
        (_text("id", "The setting's id, as `tenantSettings` shows it."),),
    ),
)
