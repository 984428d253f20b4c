"""The parts of /docs beside the routes' own types: examples that run as they are, and error answers."""

from __future__ import annotations

import re
from typing import Any

from api.schemas.base import ErrorAnswer, Listing
from api.schemas.job_creation import CreateJob
from api.schemas.report import ReportObject

TITLE = "Graft"
DESCRIPTION = """\
Training as a service: POST a data set, get a fine-tuned model of your own at your own endpoint.

The wire format is OpenAI's. The official `openai` SDK needs nothing but `base_url` and `api_key`.

1. **operator**: create a customer, issue a key for it (the operator's key in *Authorize*).
2. **jobs**: start a job with the example below (the customer's key in *Authorize* from here on).
3. **prediction**: ask the model `first-steps`, as soon as the job has a `fine_tuned_model`.
"""
TAGS = [
    {"name": "jobs", "description": "Start, follow and stop training."},
    {"name": "files", "description": "Data sets: immutable, hashed, read whole and checked when they are uploaded."},
    {"name": "prediction", "description": "Your own endpoint. A model is called by its name, or `name@version`."},
    {"name": "models", "description": "Base models and your own; versions, and the alias of the one that answers."},
    {"name": "usage", "description": "What was used, by hour, kind and model."},
    {"name": "keys", "description": "Your own keys, and what each of them may do."},
    {"name": "operator", "description": "Customers, their keys, and the audit log. With the operator's key."},
    {"name": "health", "description": "For load balancers and Prometheus. Without a key."},
]

# Where a route leaves its scopes in the generated schema; a key needs one of them.
SCOPES = "x-scopes"

_REASONS = {
    400: "The request is wrong; `param` names the field, `details` holds one entry per bad row or field.",
    401: "No key, or one that is not valid.",
    403: "The key is valid and not for this route, lacks its scope, or its customer is suspended or over a quota.",
    404: "It does not exist, or belongs to another customer.",
    409: "It cannot be done in the present state, or the `Idempotency-Key` had another body.",
    413: "The body is over the limit.",
    429: "Too many requests or rows waiting, or a quota is used up; `retry-after` is the time to wait.",
    507: "The server's disk is full; nothing was kept.",
    503: "Not right now; `retry-after` is the time to wait.",
}


def answers(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the documentation of error answers."""
    return {status: {"model": ErrorAnswer, "description": _REASONS[status]} for status in statuses}


def _rows() -> list[dict[str, str]]:
    by_label = {
        "card_arrival": ["Where is my card?", "My new card has not come yet", "How long does the card take to arrive?"],
        "refund": ["I want my money back", "Please refund the last order", "When is the refund paid out?"],
        "double_charge": ["I was charged twice", "The same payment shows two times", "Why did you bill me double?"],
    }
    return [{"text": text, "label": label} for label, texts in by_label.items() for text in texts]


_FORM_FILE = {"type": "string", "format": "binary", "description": "CSV, JSONL, Parquet or chat JSONL."}


JOB_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"$ref": "#/components/schemas/CreateJob"},
                "examples": {
                    "rows": {
                        "summary": "Rows in the request: runs as it is",
                        "value": {
                            "training_data": _rows(),
                            "model": "minilm",
                            "suffix": "first-steps",
                            "seed": 7,
                            "strategy": "auto",
                            "metadata": {"team": "support"},
                        },
                    },
                    "file": {
                        "summary": "A file that was uploaded: put its id here",
                        "value": {
                            "training_file": "file-...",
                            "suffix": "first-steps",
                            "method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": "auto"}}},
                        },
                    },
                },
            },
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": _FORM_FILE,
                        "suffix": {"type": "string", "example": "first-steps"},
                        "model": {"type": "string", "example": "minilm"},
                        "task": {"type": "string"},
                        "strategy": {"type": "string", "example": "auto"},
                        "seed": {"type": "integer", "example": 7},
                        "hyperparameters": {
                            "type": "string",
                            "example": '{"n_epochs": "auto"}',
                            "description": "JSON.",
                        },
                        "promote": {"type": "string", "enum": ["auto", "always", "never"]},
                        "metadata": {"type": "string", "example": '{"team": "support"}', "description": "JSON."},
                        "columns": {"type": "string", "example": "", "description": "JSON."},
                        "validation_file": {"type": "string", "description": "A file's id, or a file."},
                        "unlabeled_file": {"type": "string", "description": "The same, of rows without labels."},
                    },
                }
            },
        },
    }
}

FILE_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "purpose"],
                    "properties": {
                        "file": _FORM_FILE,
                        "purpose": {"type": "string", "enum": ["fine-tune", "validation", "evals"]},
                        "task": {"type": "string"},
                        "columns": {"type": "string", "description": 'JSON, e.g. {"text": "body", "label": "queue"}.'},
                    },
                }
            }
        },
    }
}


def complete(schema: dict[str, Any]) -> None:
    """Complete a generated schema by what the routes do by themselves: keys, bodies that they read, whole reports."""
    components = schema["components"]
    _refer(components["schemas"], ReportObject.__name__)
    for model in (CreateJob, ReportObject):
        described = model.model_json_schema(ref_template="#/components/schemas/{model}")
        components["schemas"].update({**described.pop("$defs", {}), model.__name__: described})
    components["securitySchemes"] = {
        "key": {
            "type": "http",
            "scheme": "bearer",
            "description": "A customer's key (`gr-…`) for a customer's routes, the operator's key for the operator's.",
        }
    }
    for name, component in components["schemas"].items():
        _describe(name, component)
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            # The first sentence of a route's docstring is clearer than the name of its function.
            operation["summary"] = re.split(r"[.:;]\s|\.$", operation["description"], maxsplit=1)[0]
            if path.startswith("/v1"):
                scopes = operation.pop(SCOPES, ())
                operation["security"] = [{"key": [scope]} for scope in scopes] or [{"key": []}]
            # FastAPI's own form of a validation error is never sent.
            operation["responses"].pop("422", None)
    components["schemas"].pop("HTTPValidationError", None)
    components["schemas"].pop("ValidationError", None)


def _refer(node: Any, name: str) -> None:
    """Replace objects that are titled with a type's name by references to it."""
    if isinstance(node, list):
        for value in node:
            _refer(value, name)
    elif isinstance(node, dict) and node.get("title") == name:
        reference = {"$ref": f"#/components/schemas/{name}"}
        kept = {"description": node["description"]} if "description" in node else {}
        node.clear()
        node.update(reference | kept)
    elif isinstance(node, dict):
        for value in node.values():
            _refer(value, name)


def _describe(name: str, component: dict[str, Any]) -> None:
    """Describe the fields that every object has, in one place."""
    if name.startswith("Listing"):
        component["description"] = Listing.__doc__
    kind = component.get("properties", {}).get("object")
    if kind is not None:
        kind.setdefault("description", "The kind of object.")
