from typing import Any

import pytest

from gateway.config.changes import changes as changes_between
from gateway.config.written import to_yaml
from tests.config.files import Files

API = "{{upstreams: {{w: {{servers: 'http://a'}}}}, routes: [{}]}}"


def told(files: Files, before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    old, new = (files.load(files.text(**given)).config for given in (before, after))
    return [str(change) for change in changes_between(old, new)]


@pytest.mark.parametrize(
    ("before", "after", "lines"),
    [
        ({}, {}, []),
        ({}, {"alipayplus__timeout": "15s"}, ["alipayplus.timeout: 12s -> 15s"]),
        ({}, {"server__workers": "auto"}, ["server.workers: 1 -> auto"]),
        ({}, {"server__listen": "[127.0.0.1:1, 127.0.0.1:2]"}, ['server.listen: ["127.0.0.1:8080"] -> ["127.0.0.1:1","127.0.0.1:2"]']),
        (
            {"alipayplus__scenes": "{A: {host: https://a}}"},
            {"alipayplus__scenes": "{B: {host: https://a}}"},
            ['alipayplus.scenes.A: {"host":["https://a"]} -> absent', 'alipayplus.scenes.B: absent -> {"host":["https://a"]}'],
        ),
        ({}, {"alipayplus__proxy": "http://a:1"}, ["alipayplus.proxy: absent -> http://a:1"]),
        (
            {"telemetry__log": "{customer_hash_key: secret1}"},
            {"telemetry__log": "{customer_hash_key: secret2, access: false}"},
            ["telemetry.log.access: true -> false", "telemetry.log.customer_hash_key: *** -> ***"],
        ),
        (
            {"api": API.format("{prefix: /, upstream: w}")},
            {"api": API.format("{prefix: /, upstream: w, max_body: 1MiB}, {prefix: /b, upstream: w}")},
            ["api.routes[0].max_body: 16MiB -> 1MiB"],
        ),
    ],
)
def test_what_differs_is_told_by_key_and_without_secrets(
    files: Files, before: dict[str, Any], after: dict[str, Any], lines: list[str]
) -> None:
    found = told(files, before, after)
    assert found[: len(lines)] == lines
    assert len(found) == len(lines) or found[len(lines)].startswith("api.routes[1]: absent -> {")


def test_a_header_value_from_elsewhere_is_masked_and_seen_to_differ(files: Files) -> None:
    route = "{prefix: /, upstream: w, request_headers: {set: {X-Token: '${env:TOKEN}', X-Gateway: open}}}"
    text = files.text(api=API.format(route))
    one, other = (files.load(text, environ={"TOKEN": token}).config for token in ("canary1", "canary2"))
    [change] = changes_between(one, other)
    assert str(change) == "api.routes[0].request_headers.set.X-Token: *** -> ***"
    assert "canary" not in repr(one) + to_yaml(one)
    assert to_yaml(one).count("X-Token: '***'\n") == to_yaml(one).count("X-Gateway: open\n") == 1


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"session__forward__url": "http://a/b?k=${env:TOKEN}"}, "session.forward.url"),
        (
            {"session__forward": None, "session__introspection": "{url: 'http://a/b?k=${env:TOKEN}', client_id: c, client_secret: s}"},
            "session.introspection.url",
        ),
        (
            {
                "api__upstreams": "{w: {servers: http://a, health_check: {path: '/b?k=${env:TOKEN}'}}}",
                "api__routes": "[{prefix: /, upstream: w}]",
            },
            "api.upstreams.w.health_check.path",
        ),
    ],
)
def test_a_query_with_a_text_from_elsewhere_is_masked_and_seen_to_differ(files: Files, changes: dict[str, str | None], key: str) -> None:
    text = files.text(**changes)
    one, other = (files.load(text, environ={"TOKEN": token}).config for token in ("canary1", "canary2"))
    [change] = map(str, changes_between(one, other))
    place = change.removeprefix(f"{key}: ").partition(" -> ")[0]
    assert change == f"{key}: {place} -> {place}"
    assert place.endswith("/b?***")
    assert f": {place}\n" in to_yaml(one)
    assert "canary" not in repr(one) + to_yaml(one)


def test_a_secret_inside_a_new_section_is_masked(files: Files) -> None:
    given = {"url": "https://a", "client_id": "c", "client_secret": "canary"}
    [forward, introspection] = told(
        files, {}, {"session__forward": None, "session__introspection": f"{{{', '.join(f'{k}: {v}' for k, v in given.items())}}}"}
    )
    assert forward.endswith(" -> absent")
    assert '"client_secret":"***"' in introspection
    assert "canary" not in introspection
