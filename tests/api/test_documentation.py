from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.api.conftest import Server, Tenant


def test_every_route_is_documented_with_its_errors_and_its_key(server: Server) -> None:
    schema = server.anonymous.get("/openapi.json").json()
    assert schema["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            assert operation["summary"], (method, path)
            assert operation["tags"], (method, path)
            assert "422" not in operation["responses"]
            if path.startswith("/v1"):
                assert all(list(way) == ["key"] for way in operation["security"])
                assert "401" in operation["responses"], (method, path)
            if method in {"post", "put"} and not path.endswith(("/cancel", "/pause", "/resume")):
                assert operation["requestBody"]["content"], (method, path)


def test_every_route_parameter_and_field_is_described(server: Server) -> None:
    schema = server.anonymous.get("/openapi.json").json()
    components = schema["components"]["schemas"]

    def described(field: dict[str, Any]) -> bool:
        target = field.get("$ref", "").rsplit("/", 1)[-1]
        return bool(field.get("description") or components.get(target, {}).get("description"))

    names = [operation["summary"] for path in schema["paths"].values() for operation in path.values()]
    assert len(set(names)) == len(names)
    missing = [
        (path, method, parameter["name"])
        for path, operations in schema["paths"].items()
        for method, operation in operations.items()
        for parameter in operation.get("parameters", [])
        if not described(parameter)
    ]
    for name, component in components.items():
        missing += [(name,)] * (not described(component))
        missing += [(name, field) for field, value in component.get("properties", {}).items() if not described(value)]
    assert not missing


def test_predictions_and_reports_have_types(server: Server) -> None:
    schema = server.anonymous.get("/openapi.json").json()
    components = schema["components"]["schemas"]
    for name, field in (("JobObject", "report"), ("VersionObject", "report"), ("PredictionList", "predictions")):
        assert list(_references(components[name]["properties"][field])), (name, field)
    assert components["ReportObject"]["properties"]["per_class"]


def test_every_reference_of_the_schema_resolves(server: Server) -> None:
    schema = server.anonymous.get("/openapi.json").json()
    for reference in _references(schema):
        node: Any = schema
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]


def test_the_examples_run_as_they_stand(server: Server, tenant: Tenant, publish: Callable[..., Any]) -> None:
    publish("first-steps", versions=2)  # what the first example's job makes, where a worker runs
    schema = server.anonymous.get("/openapi.json").json()
    ran = set()
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            body = operation.get("requestBody", {}).get("content", {}).get("application/json")
            if body is None:
                continue
            client = server.operator if "operator" in operation["tags"] else tenant.http
            key_id = server.operator.get(f"/v1/customers/{tenant.id}/keys").json()["data"][0]["id"]
            target = path.format(customer_id=tenant.id, key_id=key_id, model="first-steps", alias="live")
            for example in _examples(schema, body):
                if "file-..." in str(example) or "ft:smollm2:..." in str(example):
                    continue  # says of itself that an id goes there
                answer = client.request(method, target, json=example)
                assert answer.status_code == 200, (path, answer.text)
                ran.add(path)
    assert ran >= {
        "/v1/customers",
        "/v1/customers/{customer_id}/keys",
        "/v1/fine_tuning/jobs",
        "/v1/models/{model}/predict",
        "/v1/models/{model}/aliases/{alias}",
        "/v1/chat/completions",
        "/v1/embeddings",
    }


def _examples(schema: dict[str, Any], body: dict[str, Any]) -> Iterator[Any]:
    if "examples" in body:
        yield from (example["value"] for example in body["examples"].values())
        return
    found = body["schema"]
    if "anyOf" in found:  # a body that may be left out
        found = found["anyOf"][0]
    if "$ref" in found:
        found = schema["components"]["schemas"][found["$ref"].rsplit("/", 1)[1]]
    assert found.get("examples"), found.get("title")
    yield from found["examples"]


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)
