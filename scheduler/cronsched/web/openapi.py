"""The OpenAPI document, made from the table of operations and the dataclasses that they answer with."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import datetime, timedelta
from typing import Any

from cronqueue.version import __version__
from cronsched.web.operations import Operation, Schema

_PROBLEM: Schema = {
    "type": "object",
    "required": ["type", "title", "status", "code", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "description": "a word for programs"},
        "detail": {"type": "string", "description": "a sentence for people"},
    },
}
_SIMPLE: dict[Any, Schema] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    datetime: {"type": "string", "format": "date-time"},
    timedelta: {"type": "number", "description": "seconds"},
    type(None): {"type": "null"},
}


def document(operations: Sequence[Operation], prefix: str) -> dict[str, Any]:
    """The whole."""
    paths: dict[str, dict[str, Any]] = {}
    for each in operations:
        path = re.sub(r"\{(\w+):\w+\}", r"{\1}", each.path)
        paths.setdefault(prefix + path, {})[each.method.lower()] = _operation(each)
    return {
        "openapi": "3.1.0",
        "info": {"title": "cronqueue", "version": __version__},
        "paths": paths,
        "security": [{"password": []}, {"token": []}, {}],
        "components": {
            "schemas": {"Problem": _PROBLEM},
            "responses": {
                "Problem": {
                    "description": "what went wrong",
                    "content": {
                        "application/problem+json": {
                            "schema": {"$ref": "#/components/schemas/Problem"}
                        }
                    },
                }
            },
            "securitySchemes": {
                "password": {"type": "http", "scheme": "basic"},
                "token": {"type": "http", "scheme": "bearer"},
            },
        },
    }


def schema_of(kind: Any) -> Schema:
    """The schema of a type as our documents write it; a schema is one already."""
    if isinstance(kind, Mapping):
        return kind
    if kind in _SIMPLE:
        return _SIMPLE[kind]
    if is_dataclass(kind) and isinstance(kind, type):
        hints = typing.get_type_hints(kind)
        names = {each.name: each.name.removesuffix("_json") for each in fields(kind)}
        shown = {
            short: {} if short != name else schema_of(hints[name]) for name, short in names.items()
        }
        return {"type": "object", "required": list(shown), "properties": shown}
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [schema_of(each) for each in arguments]}
    if origin is typing.Literal:
        return {"enum": list(arguments)}
    if origin in (list, tuple, Sequence):
        return {"type": "array", "items": schema_of(arguments[0])}
    if origin in (dict, Mapping):
        return {"type": "object", "additionalProperties": schema_of(arguments[1])}
    return {}


def _operation(each: Operation) -> dict[str, Any]:
    made: dict[str, Any] = {
        "operationId": each.name,
        "summary": each.summary,
        "description": f"Needs the role {each.needs}.",
        "parameters": [*_of_path(each.path), *(_parameter(one) for one in each.parameters)],
        "responses": {
            str(each.status): {"description": "done", "content": _content(each)},
            # What a schema cannot say, such as a time that must not have passed.
            "422": {"$ref": "#/components/responses/Problem"},
            "default": {"$ref": "#/components/responses/Problem"},
        },
    }
    if each.method != "GET":
        body = each.body or {"type": "object", "additionalProperties": False, "properties": {}}
        made["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": body}},
        }
    return made


def _content(each: Operation) -> dict[str, Any]:
    if each.is_stream:
        return {"text/event-stream": {"schema": {"type": "string"}}}
    answer = schema_of(each.answer)
    shown: dict[str, Any] = {"data": {"type": "array", "items": answer} if each.is_list else answer}
    required = ["data"]
    if any(one.name == "after" for one in each.parameters):
        shown["next"] = {"type": ["string", "null"]}
        required.append("next")
    schema = {"type": "object", "required": required, "properties": shown}
    return {"application/json": {"schema": schema}}


def _of_path(path: str) -> list[dict[str, Any]]:
    found = re.findall(r"\{(\w+)(?::(\w+))?\}", path)
    kinds: dict[str, Schema] = {"int": {"type": "integer", "minimum": 0}}
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": kinds.get(kind, {"type": "string", "minLength": 1}),
        }
        for name, kind in found
    ]


def _parameter(one: Any) -> dict[str, Any]:
    return {"name": one.name, "in": one.place, "schema": one.schema, "description": one.words}
