"""The configuration, typed and frozen: every key of the file stands here under its name, with its type, default, bounds and meaning.

To add a key, add a line: the loader, the JSON Schema and `gateway config` follow from it. A key that does not stand here is unknown
to the gateway and an error in the file. Rules between keys stand in `gateway.config.checks`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Struct, field

from gateway.config import rules
from gateway.config.rules import Bounds, Distinct, Doc, Keys, NotEmpty, OneOrMany, Shorthand
from gateway.config.values import Address, Duration, Secret, Size

Timeout = Annotated[Duration, Bounds(Duration(0.001), Duration(3600))]
Span = Annotated[Duration, Bounds(Duration(0), Duration(86400))]
ByteLimit = Annotated[Size, Bounds(Size(1), Size(1 << 30))]
Count = Annotated[int, Bounds(1, 1_000_000)]
File = Annotated[Path, rules.FILE]
HeaderName = Annotated[str, rules.HEADER_NAME]
RequestHeaderName = Annotated[str, rules.REQUEST_HEADER_NAME]
CookieName = Annotated[str, rules.COOKIE_NAME]
Url = Annotated[str, rules.URL]
Origin = Annotated[str, rules.ORIGIN]
Addresses = Annotated[tuple[Address, ...], OneOrMany(), Distinct()]
Origins = Annotated[tuple[Origin, ...], OneOrMany(), Distinct()]
HeaderNames = Annotated[tuple[HeaderName, ...], Distinct()]
RequestHeaderNames = Annotated[tuple[RequestHeaderName, ...], NotEmpty(), Distinct()]
CookieNames = Annotated[tuple[CookieName, ...], NotEmpty(), Distinct(ignore_case=False)]


class Limits(Struct, frozen=True, kw_only=True):
    """What one client connection may take."""

    header_size: Annotated[Size, Bounds(Size(1 << 10), Size(1 << 20)), Doc("Request line and all header fields together; more is 431.")] = (
        Size(16 << 10)
    )
    header_timeout: Annotated[Timeout, Doc("From the first byte of a request to the end of its headers.")] = Duration(10)
    idle_timeout: Annotated[Timeout, Doc("How long a connection on which no request has begun is kept.")] = Duration(75)
    body_idle_timeout: Annotated[Timeout, Doc("Between two reads of a request body.")] = Duration(10)
    body_timeout: Annotated[Timeout, Doc("For the whole body of an SDK request.")] = Duration(30)


class Server(Struct, frozen=True, kw_only=True):
    """Where and how clients' requests are taken."""

    listen: Annotated[Addresses, Doc("host:port or [v6]:port, or a list of them.")] = (Address("127.0.0.1", 8080),)
    workers: Annotated[Literal[1], Doc("The number of worker processes; only 1 exists for now.")] = 1
    drain_timeout: Annotated[Span, Doc("After SIGTERM, how long requests may take to end; then what is left is cut.")] = Duration(30)
    limits: Annotated[Limits, Doc("What one client connection may take.")] = field(default_factory=Limits)


class Admin(Struct, frozen=True, kw_only=True):
    """The operators' listener."""

    listen: Annotated[Address, Doc("Probes and metrics; where they come from outside, write 0.0.0.0:9090 and add a network policy.")] = (
        Address("127.0.0.1", 9090)
    )


class Tls(Struct, frozen=True, kw_only=True):
    """TLS towards one peer."""

    ca: Annotated[File | None, Doc("The CA certificates (PEM) that the peer is verified with; default: the system's.")] = None
    certificate: Annotated[File | None, Doc("Our client certificate with its chain (PEM).")] = None
    private_key: Annotated[File | None, Doc("The private key of our client certificate (PEM).")] = None
    server_name: Annotated[
        Annotated[str, rules.SERVER_NAME] | None, Doc("The name in the peer's certificate and SNI; default: the URL's host.")
    ] = None


class CustomerId(Struct, frozen=True, kw_only=True):
    """Where in the auth service's answer the customer id stands: exactly one of the two."""

    header: Annotated[HeaderName | None, Doc("A header of the answer.")] = None
    json: Annotated[Annotated[str, rules.JSON_POINTER] | None, Doc("A JSON Pointer (RFC 6901) into the answer's body.")] = None


class Forward(Struct, frozen=True, kw_only=True):
    """Sessions are checked by a call to the MPP's own auth service that carries the client's credentials."""

    url: Annotated[Url, Doc("The auth service: 2xx with a customer id is valid, 401 denied, 403 forbidden, all else unavailable.")]
    method: Annotated[Literal["GET", "POST"], Doc("The method of the call; a POST has no body.")] = "GET"
    request_headers: Annotated[
        RequestHeaderNames,
        Doc("What of the client's headers is sent, and nothing else; a request with none of them is 401."),
    ] = ("Authorization", "Cookie")
    cookies: Annotated[CookieNames | None, Doc("Send only these cookies; default: all.")] = None
    customer_id: Annotated[CustomerId, Doc("Where the customer id stands in the answer: {header: NAME} or {json: POINTER}.")]
    forward_headers: Annotated[HeaderNames, Doc("More headers of the answer that the MPP's API gets.")] = ()
    timeout: Annotated[Timeout, Doc("For the whole check, waiting for a connection included.")] = Duration(2)
    max_in_flight: Annotated[Count, Doc("How many checks may be under way at once.")] = 256
    tls: Annotated[Tls | None, Doc("TLS towards the auth service.")] = None


class Introspection(Struct, frozen=True, kw_only=True):
    """Sessions are checked by token introspection (RFC 7662); the token is the Bearer of Authorization."""

    url: Annotated[Url, Doc("The introspection endpoint.")]
    client_id: Annotated[str, rules.CLIENT_ID, Doc("Our client id there (HTTP Basic).")]
    client_secret: Annotated[Secret, Doc("Our client secret there (HTTP Basic).")]
    customer_id: Annotated[CustomerId, Doc("Where the customer id stands in the answer: {json: POINTER} or {header: NAME}.")] = field(
        default_factory=lambda: CustomerId(json="/sub")
    )
    timeout: Annotated[Timeout, Doc("For the whole check, waiting for a connection included.")] = Duration(2)
    max_in_flight: Annotated[Count, Doc("How many checks may be under way at once.")] = 256
    tls: Annotated[Tls | None, Doc("TLS towards the introspection endpoint.")] = None


class Cache(Struct, frozen=True, kw_only=True):
    """How long the outcome of a check is kept; within that time a logout goes unnoticed."""

    ttl: Annotated[Span, Doc("For a valid login; 0s: every request is checked.")] = Duration(0)
    negative_ttl: Annotated[Span, Doc("For a denied login; 0s: not kept.")] = Duration(0)
    max_entries: Annotated[Annotated[int, Bounds(1, 10_000_000)], Doc("The least recently used go when there are more.")] = 100_000


class Session(Struct, frozen=True, kw_only=True):
    """How a caller's login is checked: exactly one of forward and introspection."""

    forward: Annotated[Forward | None, Doc("Ask the MPP's own auth service.")] = None
    introspection: Annotated[Introspection | None, Doc("Ask an OAuth 2.0 token introspection endpoint (RFC 7662).")] = None
    identity_header: Annotated[HeaderName, Doc("The header in which the MPP's API gets the checked customer id.")] = "X-Customer-Id"
    cache: Annotated[Cache, Doc("How long the outcome of a check is kept.")] = field(default_factory=Cache)


class Scene(Struct, frozen=True, kw_only=True):
    """What is different for one scene."""

    host: Annotated[Origins, Doc("https://host, or a list of them in order of preference.")]


class PrivateKey(Struct, frozen=True, kw_only=True):
    """One of our private keys; may be written as the path alone."""

    file: Annotated[File, Doc("PEM, PKCS#8 or PKCS#1; RSA of at least 2048 bits.")]
    password: Annotated[Secret | None, Doc("The password of an encrypted key file.")] = None


class Signing(Struct, frozen=True, kw_only=True):
    """Our keys towards Alipay+."""

    key_version: Annotated[str, rules.KEY_VERSION, Doc("Which of the private keys signs, and the version it is sent under.")]
    private_keys: Annotated[
        Mapping[str, Annotated[PrivateKey, Shorthand("file")]],
        Keys(rules.KEY_VERSION),
        NotEmpty(),
        Doc("Our private keys by key version: a path, or {file: PATH, password: TEXT}."),
    ]


class Verification(Struct, frozen=True, kw_only=True):
    """How answers of Alipay+ are verified."""

    public_keys: Annotated[
        Mapping[str, File],
        Keys(rules.KEY_VERSION_OR_ANY),
        NotEmpty(),
        Doc('The public keys of Alipay+ (PEM) by key version; "*" for every version not listed.'),
    ]
    allow_unsigned_failures: Annotated[
        bool, Doc("Accept an unsigned F with one of the codes that Alipay+ gives before it knows the client and its key.")
    ] = True


class Keepalive(Struct, frozen=True, kw_only=True):
    """How long connections are kept for the next request."""

    idle: Annotated[Span, Doc("A connection unused for longer is not used again; keep it below the peer's own limit.")] = Duration(20)
    age: Annotated[Span, Doc("A connection older than this is not used again.")] = Duration(600)


class Alipayplus(Struct, frozen=True, kw_only=True):
    """How Alipay+ is called."""

    client_id: Annotated[str, rules.CLIENT_ID, Doc("The client id that Alipay+ gave us.")]
    host: Annotated[
        Origins,
        Doc("https://host, or a list of them in order of preference: the next one is tried when no connection can be made."),
    ]
    scenes: Annotated[
        Mapping[str, Scene], Keys(rules.SCENE), Doc("Hosts of their own for scenes by name; a scene that is not listed uses host.")
    ] = field(default_factory=dict)
    signing: Annotated[Signing, Doc("Our keys.")]
    verification: Annotated[Verification, Doc("The keys of Alipay+.")]
    tls: Annotated[Tls | None, Doc("TLS towards Alipay+.")] = None
    proxy: Annotated[Annotated[str, rules.PROXY] | None, Doc("http://host:port of a forward proxy, used with CONNECT.")] = None
    timeout: Annotated[
        Timeout, Doc("From the first byte of the request sent to the last byte of the answer; must be above 10s, when Alipay+ gives up.")
    ] = Duration(12)
    connect_timeout: Annotated[Timeout, Doc("For making a connection, all hosts together.")] = Duration(3)
    queue_timeout: Annotated[Span, Doc("Waiting for a place among max_in_flight.")] = Duration(1)
    max_in_flight: Annotated[Count, Doc("How many calls may be under way at once.")] = 256
    max_response: Annotated[ByteLimit, Doc("The largest answer that is taken.")] = Size(4 << 20)
    keepalive: Annotated[Keepalive, Doc("How long connections to Alipay+ are kept for the next call.")] = field(default_factory=Keepalive)


class SdkProxy(Struct, frozen=True, kw_only=True):
    """The SDK's requests."""

    path_prefix: Annotated[
        str, rules.PATH_PREFIX, Doc("Everything below it is SDK traffic and never reaches the MPP's API; the app calls PREFIX/v1/sdkProxy.")
    ] = "/alipayplus"
    max_body: Annotated[ByteLimit, Doc("The largest SDK request body; more is 413.")] = Size(1 << 20)


class Log(Struct, frozen=True, kw_only=True):
    """What is logged and how."""

    level: Annotated[Literal["debug", "info", "warning", "error"], Doc("The least severe level that is logged.")] = "info"
    format: Annotated[Literal["json", "console"], Doc("json for machines, console for people.")] = "json"
    access: Annotated[bool, Doc("One line for each request, on standard output.")] = True
    customer_hash_key: Annotated[
        Secret | None, Doc("The key under which customer ids are hashed in the access log; without it the log has no customer field.")
    ] = None


class Telemetry(Struct, frozen=True, kw_only=True):
    """What the gateway tells about itself."""

    log: Annotated[Log, Doc("What is logged and how.")] = field(default_factory=Log)


class Config(Struct, frozen=True, kw_only=True):
    """The whole file."""

    server: Annotated[Server, Doc("Where and how clients' requests are taken.")] = field(default_factory=Server)
    admin: Annotated[Admin, Doc("The operators' listener: metrics and probes.")] = field(default_factory=Admin)
    session: Annotated[Session, Doc("How a caller's login is checked: exactly one of forward and introspection.")]
    alipayplus: Annotated[Alipayplus, Doc("How Alipay+ is called.")]
    sdk_proxy: Annotated[SdkProxy, Doc("The SDK's requests.")] = field(default_factory=SdkProxy)
    telemetry: Annotated[Telemetry, Doc("What the gateway tells about itself.")] = field(default_factory=Telemetry)
