"""The description of the server in OpenAPI, whose examples can be sent as they are."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from typing import Any
from urllib.parse import quote

import torch

from epochal.data.inputs.base import InputRule
from epochal.data.inputs.sound.rule import SoundRule
from epochal.data.inputs.table.rule import TableRule
from epochal.serve.decode import MAX_ITEMS
from epochal.serve.model import Served, middle_of

# Arrays with more numbers are no examples for people.
_LONG = 4096

# What the guard answers, besides 401 where there is a token.
_GUARDED = {"403": "The request comes from a page of another site", "421": "The server does not answer under that name"}


def describe(models: Mapping[str, Served], *, has_token: bool = False) -> dict[str, Any]:
    """Return the description of a server with these models: of several, each has paths of its own."""
    paths = {f"/{quote(name, safe='')}" if len(models) > 1 else "": model for name, model in models.items()}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Epochal", "version": metadata.version("epochal"), "description": "Predictions of trained models."},
        "paths": {
            **{f"/predict{path}": {"post": _post("predict", model, path)} for path, model in paths.items()},
            **{f"/explain{path}": {"post": _post("explain", model, path)} for path, model in paths.items()},
            "/model": {"get": _get("model", "What the models take and give.")},
            "/healthz": {"get": _get("healthz", "Whether the server answers.")},
            "/openapi.json": {"get": _get("openapi", "This description.")},
            "/metrics": {"get": _get("metrics", "Measurements for Prometheus.", "text/plain")},
        },
        "components": {"schemas": _SCHEMAS, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "security": [{"token": []}] if has_token else [],
    }


def _post(verb: str, model: Served, path: str) -> dict[str, Any]:
    """Return the description of what is asked about items."""
    summary = {"predict": "Predict one item or several", "explain": "Say what speaks for the prediction of one item"}[verb]
    answer = {
        "predict": _answer("A prediction for each item, in their order", _ref("Predictions")),
        "explain": _answer("The input as the network sees it, and what the prediction owes its parts", _ref("Explanation")),
    }[verb]
    return {
        "summary": f"{summary}, by the model {model.name}.",
        "description": model.bundle.spec.describe(),
        "operationId": verb + path.replace("/", "-"),
        "requestBody": {"required": True, "content": _bodies(model.rule, MAX_ITEMS if verb == "predict" else 1)},
        "responses": {
            "200": answer,
            "422": _answer("No item can be read, and why", {"anyOf": [_ref("Predictions"), _ref("Error")]}),
            **{status: _answer(why, _ref("Error")) for status, why in _REFUSED.items()},
        },
    }


_REFUSED = {
    "400": "The request is not well formed",
    "401": "The token is missing or wrong",
    **_GUARDED,
    "408": "The body did not arrive in time",
    "413": "The body is too large, or has too many items",
    "415": "The model does not take this type of content",
    "503": "The server is busy: Retry-After says for how many seconds",
}


def _bodies(rule: InputRule, most: int) -> dict[str, Any]:
    """Return the types of content that a model takes."""
    example = example_of(rule)
    items = {"type": "array", "items": _schema_of(rule), "minItems": 1, "maxItems": most}
    as_json = {"type": "object", "properties": {"inputs": items}, "required": ["inputs"], "additionalProperties": False}
    bodies: dict[str, Any] = {
        "application/json": {"schema": as_json, **({"example": {"inputs": [example]}} if example is not None else {})}
    }
    if rule.kind in _RAW:
        file = {"type": "array", "items": {"type": "string", "format": "binary"}, "minItems": 1, "maxItems": most}
        form = {"type": "object", "properties": {"file": file}, "required": ["file"], "additionalProperties": False}
        bodies |= {
            "multipart/form-data": {"schema": form},
            **{medium: {"schema": {"type": "string", "minLength": 1}} for medium in _RAW[rule.kind]},
        }
    return bodies


_RAW = {"picture": ("image/png", "image/jpeg", "image/webp"), "sound": ("audio/wav",), "text": ("text/plain",), "table": ("text/csv",)}


def _schema_of(rule: InputRule) -> dict[str, Any]:
    """Return what an input is in JSON."""
    if rule.kind == "text":
        return {"type": "string"}
    if isinstance(rule, TableRule):
        kinds = {"number": ["number", "null"], "date": ["string", "null"], "category": ["string", "number", "null"]}
        columns = {column.name: {"type": kinds[column.kind]} for column in rule.columns}
        # Up to half of them may be missing, which is noted.
        return {"type": "object", "properties": columns, "minProperties": len(columns) - len(columns) // 2}
    bounds = torch.iinfo if rule.dtype in ("uint8", "int16", "int32", "int64") else torch.finfo
    limits = bounds(getattr(torch, rule.dtype))
    schema: dict[str, Any] = {"type": "integer" if bounds is torch.iinfo else "number", "minimum": limits.min, "maximum": limits.max}
    if isinstance(rule, SoundRule):
        # Samples at the model's rate: longer sounds are cropped, shorter ones padded.
        return {"type": "array", "items": schema, "minItems": 1}
    for size in reversed(rule.shape):
        schema = {"type": "array", "items": schema, "minItems": size, "maxItems": size}
    return schema


def example_of(rule: InputRule) -> Any:
    """Return an input as JSON has it, or `None` if that would be too long."""
    if rule.kind == "text":
        return "a new text"
    if isinstance(rule, TableRule):
        return {column.name: middle_of(column) for column in rule.columns}
    return rule.zeros()[0].tolist() if rule.size <= _LONG else None


def _get(name: str, summary: str, medium: str = "application/json") -> dict[str, Any]:
    found = _answer(summary, {"type": "object" if medium == "application/json" else "string"}, medium)
    statuses = _GUARDED if name == "healthz" else {"401": _REFUSED["401"], **_GUARDED}
    return {
        "operationId": name,
        "summary": summary,
        "responses": {"200": found, **{status: _answer(why, _ref("Error")) for status, why in statuses.items()}},
    }


def _answer(description: str, schema: Mapping[str, Any], medium: str = "application/json") -> dict[str, Any]:
    return {"description": description, "content": {medium: {"schema": schema}}}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


_REASON: dict[str, Any] = {
    "type": "object",
    "properties": {"message": {"type": "string"}, "fix": {"type": "string"}},
    "required": ["message", "fix"],
}
_SHARE = {"type": ["number", "null"], "minimum": 0, "maximum": 1}
_RUNNER_UP = {"type": ["object", "null"], "properties": {"label": {"type": "string"}, "probability": _SHARE}}
_PREDICTION = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "label": {"type": "string"},
        "probability": _SHARE,
        "runner_up": _RUNNER_UP,
        "values": {"type": "object", "additionalProperties": {"type": "number"}},
        "error": _REASON,
    },
    "required": ["name"],
}
_PREDICTIONS = {
    "type": "object",
    "properties": {
        "model": {"type": "string"},
        "predictions": {"type": "array", "items": _ref("Prediction")},
        "notes": {"type": "array", "items": {"type": "string"}},
        "milliseconds": {"type": "number"},
    },
    "required": ["model", "predictions", "milliseconds"],
}
_EXPLANATION = {
    "type": "object",
    "properties": {
        "model": {"type": "string"},
        "seen": {"type": ["string", "null"], "description": "A picture, as a data: URL."},
        "map": {"type": "object", "properties": {"kind": {"enum": ["picture", "words", "columns"]}}, "required": ["kind"]},
        "prediction": _ref("Prediction"),
        "milliseconds": {"type": "number"},
    },
    "required": ["model", "seen", "map", "prediction", "milliseconds"],
}
_ERROR = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {**_REASON["properties"], "code": {"type": "string"}},
            "required": ["code", *_REASON["required"]],
        }
    },
    "required": ["error"],
}
_SCHEMAS = {"Prediction": _PREDICTION, "Predictions": _PREDICTIONS, "Explanation": _EXPLANATION, "Error": _ERROR}
