"""The description of the server in OpenAPI, whose examples can be sent as they are."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from typing import Any

from epochal.data.inputs.base import InputRule
from epochal.data.inputs.table.rule import TableRule
from epochal.serve.decode import MAX_ITEMS
from epochal.serve.model import Served, middle_of

# Arrays with more numbers are no examples for people.
_LONG = 4096


def describe(models: Mapping[str, Served]) -> dict[str, Any]:
    """Return the description of a server with these models."""
    error = _answer("Why there is no answer, and what to do", _ref("Error"))
    errors = {str(status): error for status in (400, 404, 408, 413, 415, 422, 503)}
    choice = {
        "name": "model",
        "in": "query",
        "description": "Which model; may be left out if there is one.",
        "required": len(models) > 1,
        "schema": {"type": "string", "enum": list(models)},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Epochal", "version": metadata.version("epochal"), "description": "Predictions of trained models."},
        "paths": {
            "/predict": {
                "post": {
                    "summary": "Predict one item or several.",
                    "operationId": "predict",
                    "parameters": [choice],
                    "requestBody": {"required": True, "content": _bodies(models)},
                    "responses": {"200": _answer("A prediction for each item, in their order", _ref("Predictions")), **errors},
                }
            },
            "/explain": {
                "post": {
                    "summary": "Say what speaks for the prediction of one item.",
                    "operationId": "explain",
                    "parameters": [choice],
                    "requestBody": {"required": True, "content": _bodies(models)},
                    "responses": {
                        "200": _answer("The input as the network sees it, and what it owes its parts", {"type": "object"}),
                        **errors,
                    },
                }
            },
            "/model": {"get": _get("model", "What the models take and give.")},
            "/healthz": {"get": _get("healthz", "Whether the server answers.")},
            "/openapi.json": {"get": _get("openapi", "This description.")},
            "/metrics": {"get": {**_get("metrics", "Measurements for Prometheus."), "responses": {"200": {"description": "Text"}}}},
        },
        "components": {"schemas": _SCHEMAS, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "security": [{}, {"token": []}],
    }


def _bodies(models: Mapping[str, Served]) -> dict[str, Any]:
    """Return the types of content that the models take."""
    kinds = {model.rule.kind for model in models.values()}
    examples = {name: {"value": {"inputs": [example]}} for name, model in models.items() if (example := example_of(model.rule)) is not None}
    inputs = {"type": "array", "items": True, "minItems": 1, "maxItems": MAX_ITEMS}
    as_json = {"type": "object", "properties": {"inputs": inputs}, "required": ["inputs"], "additionalProperties": False}
    files = {
        "type": "object",
        "properties": {"file": {"type": "array", "items": {"type": "string", "format": "binary"}}},
        "required": ["file"],
    }
    bodies: dict[str, Any] = {
        "application/json": {"schema": as_json, **({"examples": examples} if examples else {})},
        "multipart/form-data": {"schema": files},
    }
    for kind, media in _RAW.items():
        if kind in kinds:
            bodies |= {medium: {"schema": {"type": "string"}} for medium in media}
    return bodies


_RAW = {"picture": ("image/png", "image/jpeg", "image/webp"), "sound": ("audio/wav",), "text": ("text/plain",), "table": ("text/csv",)}


def example_of(rule: InputRule) -> Any:
    """Return an input as JSON has it, or `None` if that would be too long."""
    if rule.kind == "text":
        return "a new text"
    if isinstance(rule, TableRule):
        return {column.name: middle_of(column) for column in rule.columns}
    return rule.zeros()[0].tolist() if rule.size <= _LONG else None


def _get(name: str, summary: str) -> dict[str, Any]:
    return {"operationId": name, "summary": summary, "responses": {"200": _answer(summary, {"type": "object"})}}


def _answer(description: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


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
_ERROR = {
    "type": "object",
    "properties": {"error": {**_REASON, "properties": {**_REASON["properties"], "code": {"type": "string"}}}},
}
_SCHEMAS = {"Prediction": _PREDICTION, "Predictions": _PREDICTIONS, "Error": _ERROR}
