"""The JSON Schema of the chart's values, with that of gateway.yaml in it; `make fix` writes what this prints.

Helm's regular expressions know no looking ahead: a text whose pattern needs it is held to be any text, and the gateway's own check says
the rest.
"""

import json
import sys
from typing import Any, Final

from gateway.config.schema import schema

Schema = dict[str, Any]

TEXT: Final[Schema] = {"type": "string"}
FLAG: Final[Schema] = {"type": "boolean"}
MAP: Final[Schema] = {"type": "object"}
TEXTS: Final[Schema] = {"type": "object", "additionalProperties": TEXT}
COUNT: Final[Schema] = {"type": "integer", "minimum": 1}
NAME: Final[Schema] = {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$"}
DURATION: Final[Schema] = {"type": "string", "pattern": "^[0-9]{1,9}(ms|s|m|h)$"}
PEERS: Final[Schema] = {"type": "array", "items": MAP, "minItems": 1}
"""A network policy's rule without a peer lets everybody through."""


def values() -> Schema:
    """Return the schema."""
    own = schema()
    definitions = own.pop("$defs")
    properties: Schema = {
        "image": _section(
            repository=TEXT,
            tag=TEXT,
            digest={"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"},
            pullPolicy={"enum": ["Always", "IfNotPresent", "Never"]},
        ),
        "imagePullSecrets": {"type": "array", "items": MAP},
        "config": {"allOf": [{"$ref": "#/$defs/GatewayYaml"}, {"$ref": "#/$defs/InPods"}]},
        "secret": NAME,
        "restartOnConfigChange": FLAG,
        "replicas": COUNT,
        "resources": _section(requests=MAP, limits=MAP, claims={"type": "array", "items": MAP}),
        "service": _section(port={"type": "integer", "minimum": 1, "maximum": 65535}, annotations=TEXTS),
        **dict.fromkeys(("podAnnotations", "podLabels", "nodeSelector"), TEXTS),
        "tolerations": {"type": "array", "items": MAP},
        "affinity": _section(nodeAffinity=MAP, podAffinity=MAP, podAntiAffinity=MAP),
        "priorityClassName": TEXT,
        "autoscaling": _section(
            enabled=FLAG, minReplicas=COUNT, maxReplicas=COUNT, cpu={**COUNT, "maximum": 100}, inFlight={"type": "integer", "minimum": 0}
        ),
        "monitoring": _section(enabled=FLAG, labels=TEXTS),
        "networkPolicy": {
            **_section(enabled=FLAG, clients=PEERS, prometheus=PEERS, egress={"type": "array", "items": MAP}),
            "required": ["clients", "prometheus"],
        },
        "global": MAP,  # Helm's own
    }
    root = {"$schema": own.pop("$schema"), "title": "values of the chart alipayplus-gateway", **_section(**properties)}
    root["required"] = ["config", "secret"]
    return {**root, "$defs": {**_without_lookahead(definitions), "GatewayYaml": _without_lookahead(own), "InPods": _in_pods()}}


def _section(**properties: Schema) -> Schema:
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _in_pods() -> Schema:
    """Return what the templates rely on: the ports, and durations that can be added up."""
    server = {"listen": {"const": "0.0.0.0:8080"}, "accept_grace": DURATION, "drain_timeout": DURATION}
    admin = {"listen": {"const": "0.0.0.0:9090"}}
    sections = {name: {"properties": keys, "required": list(keys)} for name, keys in (("server", server), ("admin", admin))}
    return {"properties": sections, "required": list(sections)}


def _without_lookahead(part: Any) -> Any:
    if isinstance(part, list):
        return [_without_lookahead(item) for item in part]
    if not isinstance(part, dict):
        return part
    return {key: _without_lookahead(value) for key, value in part.items() if not (key == "pattern" and _looks_ahead(value))}


def _looks_ahead(pattern: object) -> bool:
    return isinstance(pattern, str) and ("(?=" in pattern or "(?!" in pattern)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(values(), indent=2) + "\n")
