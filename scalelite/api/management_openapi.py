"""The REST API's description in OpenAPI 3.1, served at /scalelite/api/openapi.json."""

from __future__ import annotations

from typing import Any, Final

import orjson

from scalelite.api.management_input import MAX_TEXT
from scalelite.api.replies import NO_CACHE, Reply

Schema = dict[str, Any]

_TEXT: Final[Schema] = {"type": "string"}
_SWITCH: Final[Schema] = {"type": "boolean"}


def _ref(kind: str, name: str) -> Schema:
    return {"$ref": f"#/components/{kind}/{name}"}


def _object(properties: dict[str, Schema], required: tuple[str, ...] = ()) -> Schema:
    schema: Schema = {"type": "object", "properties": properties}
    return {**schema, "required": list(required)} if required else schema


def _json_content(schema: Schema) -> Schema:
    return {"application/json": {"schema": schema}}


def _answer(description: str, schema: Schema, *, failed: bool = False) -> Schema:
    content = _json_content(schema)
    if failed:
        content["application/xml"] = {"schema": _ref("schemas", "Failed")}
    return {"description": description, "content": content}


_ID: Final[Schema] = {
    "name": "id",
    "in": "query",
    "required": True,
    "schema": _TEXT,
    "description": "Id of the record. The JSON body may hold it instead.",
}


def _operation(
    summary: str,
    success: Schema,
    errors: tuple[int, ...] = (),
    *,
    tag: str,
    of_one: bool = False,
    body: Schema | None = None,
    created: bool = False,
    errors_say: str = "Error",
    leads_to: tuple[str, ...] = (),
) -> Schema:
    """An operation. Whatever it does, a call that is not let in is answered with 200 and XML."""
    good = _answer("Done", success, failed=not created)
    if leads_to:
        # A record that was made can be looked at, changed and removed.
        where = "$response.body#/id" if tag == "servers" else "$response.body#/tenant/id"
        good["links"] = {name: {"operationId": name, "parameters": {"id": where}} for name in leads_to}
    responses = {"201": good, "200": _FAILED} if created else {"200": good}
    known = {400, *errors, *((404,) if of_one else ()), *((412,) if tag == "tenants" else ())}
    for status in sorted({*known, 500, 503, *((413,) if body is not None else ())}):
        said = "Message" if status == 412 or (status in (400, 409) and errors_say == "Message") else "Error"
        schema = _ref("schemas", said)
        if said == "Message" and status == 400:
            schema = {"anyOf": [schema, _ref("schemas", "Error")]}
        responses[str(status)] = _answer(_STATUSES[status], schema)
    operation: Schema = {"summary": summary, "tags": [tag], "responses": responses}
    if of_one:
        operation["parameters"] = [_ID]
    if body is not None:
        operation["requestBody"] = {"required": True, "content": _json_content(body)}
    return operation


_STATUSES: Final = {
    400: "The call is malformed, or what it asks for cannot be",
    404: "There is none",
    409: "There is one of that name or id already",
    412: "The installation has no tenants",
    413: "The body is too large",
    422: "What the call asks for cannot be",
    500: "An unexpected error",
    503: "The store cannot be reached",
}
_FAILED: Final[Schema] = {
    "description": "The call is not let in: not signed, not JSON, or without the record it is about",
    "content": {"application/xml": {"schema": _ref("schemas", "Failed")}},
}

_SERVER: Final[Schema] = _object(
    {
        "id": _TEXT,
        "url": _TEXT,
        "secret": _TEXT,
        "tag": {"type": "string", "description": "Empty if it has none."},
        "bbb_version": {"type": "string", "description": "Empty until the first poll."},
        "state": {"enum": ["enabled", "cordoned", "disabled"]},
        "load": {"anyOf": [{"type": "number"}, {"const": "unavailable"}]},
        "load_multiplier": {"type": "string", "description": "A number as text."},
        "online": {"enum": ["online", "offline"]},
    },
    ("id", "url", "secret", "tag", "bbb_version", "state", "load", "load_multiplier", "online"),
)
_LISTED_TENANT: Final[Schema] = _object({"id": _TEXT, "name": _TEXT, "secrets": _TEXT}, ("id", "name", "secrets"))
_TENANT: Final[Schema] = _object(
    {
        "id": _TEXT,
        "name": _TEXT,
        "secrets": {"type": "string", "description": "Joined by `:`, any of them signs."},
        "new_record": {"const": False},
        "destroyed": {"const": False},
        "lrs_endpoint": _TEXT,
        "lrs_username": _TEXT,
        "lrs_password": _TEXT,
        "kc_token_url": _TEXT,
        "kc_client_id": _TEXT,
        "kc_client_secret": _TEXT,
        "kc_username": _TEXT,
        "kc_password": _TEXT,
    },
    ("id", "name", "secrets", "new_record", "destroyed"),
)
_MULTIPLIER: Final[Schema] = {
    "anyOf": [
        {"type": "number", "exclusiveMinimum": 0, "maximum": 1_000_000},
        {"type": "string", "pattern": r"^[1-9][0-9]{0,5}(\.[0-9]{1,6})?$"},
        {"type": "null"},
    ],
    "description": "How much dearer a user is here than elsewhere; 1.0 where none is given.",
}
_SECRET: Final[Schema] = {"type": "string", "pattern": "^[!-~]+$", "maxLength": MAX_TEXT}
_TAG: Final[Schema] = {
    "type": ["string", "null"],
    "pattern": "^[ -~]*$",
    "maxLength": MAX_TEXT,
    "description": "An empty one removes it, null keeps it.",
}
_FORCE: Final[Schema] = {**_SWITCH, "description": "Go on although there are meetings."}
_NEW_SERVER: Final[Schema] = _object(
    {
        "url": {
            "type": "string",
            "pattern": "^https?://[A-Za-z0-9_-]{1,63}(\\.[A-Za-z0-9_-]{1,63})*(:[1-9][0-9]{0,3})?(/[A-Za-z0-9._~-]*)*$",
            "maxLength": MAX_TEXT,
            "description": "Its API, as `bbb-conf --secret` shows it, with /api at the end.",
        },
        "secret": _SECRET,
        "load_multiplier": _MULTIPLIER,
        "tag": _TAG,
    },
    ("url", "secret"),
)
_SERVER_CHANGES: Final[Schema] = {
    **_object(
        {
            "state": {"enum": ["enable", "cordon", "disable"]},
            "secret": _SECRET,
            "load_multiplier": _MULTIPLIER,
            "tag": _TAG,
        }
    ),
    "minProperties": 1,
}
_NAME: Final[Schema] = {
    "type": "string",
    "pattern": "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
    "description": "The first label of the host that its front-ends call.",
}
_SECRETS: Final[Schema] = {
    "type": "string",
    "pattern": "^[!-9;-~]+(:[!-9;-~]+)*$",
    "description": "Joined by `:`; any of them signs.",
}
_NEW_TENANT: Final[Schema] = _object({"name": _NAME, "secrets": _SECRETS}, ("name", "secrets"))
_TENANT_CHANGES: Final[Schema] = {**_object({"name": _NAME, "secrets": _SECRETS}), "minProperties": 1}
_SUCCESS: Final[Schema] = _object({"success": _TEXT}, ("success",))


def _list(schema: Schema) -> Schema:
    return {"type": "array", "items": schema}


_PATHS: Final[Schema] = {
    "/getServers": {"get": _operation("All servers", _list(_ref("schemas", "Server")), (404,), tag="servers")},
    "/getServerInfo": {"get": _operation("One server", _ref("schemas", "Server"), tag="servers", of_one=True)},
    "/addServer": {
        "post": _operation(
            "Add a server, disabled and offline",
            _ref("schemas", "Server"),
            (409,),
            tag="servers",
            created=True,
            leads_to=("getServerInfo", "updateServer", "panicServer", "deleteServer"),
            body=_object({"server": _NEW_SERVER}, ("server",)),
        )
    },
    "/updateServer": {
        "post": _operation(
            "Change a server",
            _ref("schemas", "Server"),
            tag="servers",
            of_one=True,
            body=_object({"server": _SERVER_CHANGES}, ("server",)),
        )
    },
    "/deleteServer": {
        "post": _operation(
            "Take a server out of the pool", _SUCCESS, tag="servers", of_one=True, body=_object({"force": _FORCE})
        )
    },
    "/panicServer": {
        "post": _operation(
            "Disable a crashed server, end its meetings and forget them",
            _SUCCESS,
            tag="servers",
            of_one=True,
            body=_object({"keep_state": {**_SWITCH, "description": "Leave it enabled."}}),
        )
    },
    "/getTenants": {
        "get": _operation(
            "All tenants",
            {"anyOf": [_list(_LISTED_TENANT), _ref("schemas", "Message")]},
            tag="tenants",
        )
    },
    "/getTenantInfo": {"get": _operation("One tenant", _ref("schemas", "Tenant"), tag="tenants", of_one=True)},
    "/addTenant": {
        "post": _operation(
            "Add a tenant",
            _object({"tenant": _ref("schemas", "Tenant")}, ("tenant",)),
            (409,),
            tag="tenants",
            created=True,
            errors_say="Message",
            leads_to=("getTenantInfo", "updateTenant", "deleteTenant"),
            body=_object({"tenant": _NEW_TENANT}, ("tenant",)),
        )
    },
    "/updateTenant": {
        "post": _operation(
            "Change a tenant",
            _object({"tenant": _ref("schemas", "Tenant")}, ("tenant",)),
            (409, 422),
            tag="tenants",
            of_one=True,
            body=_object({"tenant": _TENANT_CHANGES}, ("tenant",)),
        )
    },
    "/deleteTenant": {
        "post": _operation(
            "Remove a tenant with its settings",
            _SUCCESS,
            (422,),
            tag="tenants",
            of_one=True,
            body=_object({"force": _FORCE}),
        )
    },
}

for _path, _methods in _PATHS.items():
    for _one in _methods.values():
        _one["operationId"] = _path.removeprefix("/")

DOCUMENT: Final[Schema] = {
    "openapi": "3.1.0",
    "info": {
        "title": "Scalelite management",
        "version": "1",
        "description": "Servers and tenants of a BigBlueButton load balancer. Every call is signed.",
    },
    "servers": [{"url": "/scalelite/api"}],
    "security": [{"checksum": []}, {"time": [], "signature": []}],
    "paths": _PATHS,
    "components": {
        "schemas": {
            "Server": _SERVER,
            "Tenant": _TENANT,
            "Error": _object({"error": _TEXT}, ("error",)),
            "Message": _object({"message": _TEXT}, ("message",)),
            "Failed": {
                **_object(
                    {"returncode": {"const": "FAILED"}, "messageKey": _TEXT, "message": _TEXT},
                    ("returncode", "messageKey", "message"),
                ),
                "xml": {"name": "response"},
            },
        },
        "securitySchemes": {
            "checksum": {
                "type": "apiKey",
                "in": "query",
                "name": "checksum",
                "description": "Hex SHA-1, SHA-256, SHA-384 or SHA-512 of: the path's last part, the query without "
                "this parameter, the secret. It covers no body and never expires.",
            },
            "time": {
                "type": "apiKey",
                "in": "header",
                "name": "X-Scalelite-Time",
                "description": "Seconds since 1970, no more than 300 from the server's clock.",
            },
            "signature": {
                "type": "apiKey",
                "in": "header",
                "name": "X-Scalelite-Signature",
                "description": "Hex HMAC-SHA-256 with the secret over: method, the path's last part, query, "
                "X-Scalelite-Time, each with a line feed behind it, then the body.",
            },
        },
    },
}

DESCRIPTION: Final = Reply(orjson.dumps(DOCUMENT), 200, b"application/json; charset=utf-8", NO_CACHE)
