"""The configuration, typed and frozen: every key of the file stands here under its name, with its type, default, bounds and meaning.

To add a key, add a line: the loader, the JSON Schema and `gateway config` follow from it. A key that does not stand here is unknown
to the gateway and an error in the file. Rules between keys stand in `gateway.config.checks`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Struct, field

from gateway.config import listener, rules
from gateway.config.listener import Listener
from gateway.config.rules import Bounds, Distinct, Doc, Keys, MaskedIfSubstituted, NotEmpty, OneOrMany, PathBehind, Shorthand
from gateway.config.values import Address, Duration, MaskedQuery, Secret, Share, Size, Workers

Timeout = Annotated[Duration, Bounds(Duration(0.001), Duration(3600))]
Span = Annotated[Duration, Bounds(Duration(0), Duration(86400))]
ByteLimit = Annotated[Size, Bounds(Size(1), Size(1 << 30))]
StreamLimit = Annotated[Size, Bounds(Size(1), Size(1 << 40))]
Count = Annotated[int, Bounds(1, 1_000_000)]
File = Annotated[Path, rules.FILE]
HeaderName = Annotated[str, rules.HEADER_NAME]
RequestHeaderName = Annotated[str, rules.REQUEST_HEADER_NAME]
IdentityHeaderName = Annotated[str, rules.IDENTITY_HEADER_NAME]
CookieName = Annotated[str, rules.COOKIE_NAME]
Url = Annotated[str, rules.URL, MaskedIfSubstituted(MaskedQuery)]
Origin = Annotated[str, rules.ORIGIN]
Listeners = Annotated[tuple[Annotated[Listener, PathBehind(listener.UNIX)], ...], OneOrMany(), Distinct(ignore_case=False)]
Origins = Annotated[tuple[Origin, ...], OneOrMany(), Distinct()]
HeaderNames = Annotated[tuple[HeaderName, ...], Distinct()]
IdentityHeaderNames = Annotated[tuple[IdentityHeaderName, ...], Distinct()]
RequestHeaderNames = Annotated[tuple[RequestHeaderName, ...], NotEmpty(), Distinct()]
HostNames = Annotated[tuple[Annotated[str, rules.HOST_NAME], ...], OneOrMany(), Distinct()]
Methods = Annotated[tuple[Annotated[str, rules.METHOD], ...], OneOrMany(), Distinct()]
Networks = Annotated[tuple[Annotated[str, rules.NETWORK], ...], Distinct()]
HeaderValues = Annotated[Mapping[str, Annotated[str, rules.HEADER_VALUE, MaskedIfSubstituted()]], Keys(rules.HEADER_NAME, ignore_case=True)]
CookieNames = Annotated[tuple[CookieName, ...], NotEmpty(), Distinct(ignore_case=False)]


class Limits(Struct, frozen=True, kw_only=True):
    """How many connections of clients there may be, and what one of them may take."""

    connections: Annotated[Count, Doc("For each worker; above it, connections wait until one ends.")] = 8000
    header_size: Annotated[Size, Bounds(Size(1 << 10), Size(1 << 20)), Doc("Request line and all header fields together; more is 431.")] = (
        Size(16 << 10)
    )
    header_timeout: Annotated[Timeout, Doc("From the first byte of a request to the end of its headers.")] = Duration(10)
    idle_timeout: Annotated[Timeout, Doc("How long a connection on which no request has begun is kept.")] = Duration(75)
    body_idle_timeout: Annotated[Timeout, Doc("Between two reads of a request body.")] = Duration(10)
    body_timeout: Annotated[Timeout, Doc("For the whole body of an SDK request.")] = Duration(30)
    write_idle_timeout: Annotated[Timeout, Doc("How long a client may take nothing of its answer.")] = Duration(30)


class ServerTls(Struct, frozen=True, kw_only=True):
    """TLS (1.2 and later) towards clients."""

    certificate: Annotated[File, Doc("Our certificate with its chain (PEM).")]
    private_key: Annotated[File, Doc("The private key of our certificate (PEM, without a password).")]
    client_ca: Annotated[
        File | None, Doc("Clients are asked for a certificate, and one that they show is verified with these CA certificates (PEM).")
    ] = None
    subject_header: Annotated[
        IdentityHeaderName | None,
        Doc("The header in which the MPP's API gets the subject of a verified client certificate (RFC 4514); the client's own is removed."),
    ] = None


class Server(Struct, frozen=True, kw_only=True):
    """Where and how clients' requests are taken."""

    listen: Annotated[Listeners, Doc("host:port, [v6]:port, unix:PATH or fd:NAME (socket activation), or a list of them.")] = (
        Listener(Address("127.0.0.1", 8080)),
    )
    unix_mode: Annotated[Annotated[str, rules.MODE], Doc("The mode of unix sockets: who may connect.")] = "0660"
    workers: Annotated[Workers, Doc("The number of worker processes; auto: one for each CPU that may be used, cgroup limits counted.")] = (
        Workers(1)
    )
    proxy_protocol: Annotated[
        bool, Doc("Connections from trusted_proxies must begin with a PROXY header (v1 or v2), which tells the client; none else may.")
    ] = False
    tls: Annotated[ServerTls | None, Doc("TLS towards clients; without it, plain HTTP.")] = None
    trusted_proxies: Annotated[
        Networks, Doc("The addresses and networks whose X-Forwarded-*, X-Request-Id and traceparent count; nobody's by default.")
    ] = ()
    accept_grace: Annotated[Span, Doc("After SIGTERM, how long connections are still accepted, so that load balancers can notice.")] = (
        Duration(5)
    )
    drain_timeout: Annotated[Span, Doc("After accept_grace, how long requests may take to end; then what is left is cut.")] = Duration(30)
    pid_file: Annotated[File | None, Doc("Where the process writes its id, for gateway reload and gateway stop.")] = None
    limits: Annotated[Limits, Doc("How many connections there may be, and what one of them may take.")] = field(default_factory=Limits)


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
        Doc("What of the client's headers is sent, and nothing else; a request with none of them is 401, with over 8 KiB 431."),
    ] = ("Authorization", "Cookie")
    cookies: Annotated[CookieNames | None, Doc("Send only these cookies; default: all.")] = None
    customer_id: Annotated[CustomerId, Doc("Where the customer id stands in the answer: {header: NAME} or {json: POINTER}.")]
    forward_headers: Annotated[IdentityHeaderNames, Doc("More headers of the answer that the MPP's API gets.")] = ()
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
    negative_ttl: Annotated[Span, Doc("For a denied or forbidden login; 0s: not kept.")] = Duration(0)
    max_entries: Annotated[Annotated[int, Bounds(1, 10_000_000)], Doc("The least recently used go when there are more.")] = 100_000


class Session(Struct, frozen=True, kw_only=True):
    """How a caller's login is checked: exactly one of forward and introspection."""

    forward: Annotated[Forward | None, Doc("Ask the MPP's own auth service.")] = None
    introspection: Annotated[Introspection | None, Doc("Ask an OAuth 2.0 token introspection endpoint (RFC 7662).")] = None
    identity_header: Annotated[IdentityHeaderName, Doc("The header in which the MPP's API gets the checked customer id.")] = "X-Customer-Id"
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
    queue_timeout: Annotated[Span, Doc("Waiting for a place among max_in_flight; see Overload in the README.")] = Duration(1)
    max_in_flight: Annotated[Count, Doc("How many calls may be under way at once.")] = 256
    max_response: Annotated[ByteLimit, Doc("The largest answer that is taken.")] = Size(4 << 20)
    keepalive: Annotated[Keepalive, Doc("How long connections to Alipay+ are kept for the next call.")] = field(default_factory=Keepalive)


class SdkProxy(Struct, frozen=True, kw_only=True):
    """The SDK's requests."""

    path_prefix: Annotated[
        str, rules.PATH_PREFIX, Doc("Everything below it is SDK traffic and never reaches the MPP's API; the app calls PREFIX/v1/sdkProxy.")
    ] = "/alipayplus"
    max_body: Annotated[ByteLimit, Doc("The largest SDK request body; more is 413.")] = Size(1 << 20)


class UpstreamServer(Struct, frozen=True, kw_only=True):
    """One server of an upstream; may be written as its URL alone."""

    url: Annotated[str, rules.SERVER, PathBehind("unix:"), Doc("http://host:port, https://host:port or unix:PATH.")]
    weight: Annotated[Annotated[int, Bounds(1, 1000)], Doc("Its share of the requests beside the other servers.")] = 1
    backup: Annotated[bool, Doc("Used only while none of the others can be.")] = False


class ApiKeepalive(Struct, frozen=True, kw_only=True):
    """How long connections are kept for the next request, and how many."""

    idle: Annotated[Span, Doc("A connection unused for longer is not used again; keep it below the peer's own limit.")] = Duration(20)
    age: Annotated[Span, Doc("A connection older than this is not used again.")] = Duration(600)
    connections: Annotated[
        Annotated[int, Bounds(0, 1_000_000)], Doc("How many unused ones are kept for longer than a second, per server; 0 keeps none.")
    ] = 64


class Retries(Struct, frozen=True, kw_only=True):
    """When a request is sent again: when no byte of it was sent, or when its method is idempotent and it has no body."""

    attempts: Annotated[Annotated[int, Bounds(0, 10)], Doc("How often one request may be sent again.")] = 1
    budget: Annotated[Share, Doc("The share of all requests that may be sent again.")] = Share(0.2)


class HealthCheck(Struct, frozen=True, kw_only=True):
    """A request to each server from time to time; 2xx and 3xx are healthy."""

    path: Annotated[str, rules.REQUEST_PATH, MaskedIfSubstituted(MaskedQuery), Doc("What is requested, with GET.")]
    interval: Annotated[Timeout, Doc("From one check to the next.")] = Duration(5)
    timeout: Annotated[Timeout, Doc("For one check.")] = Duration(1)
    healthy: Annotated[Count, Doc("So many good ones in a row make a server healthy.")] = 2
    unhealthy: Annotated[Count, Doc("So many bad ones in a row make it unhealthy.")] = 3


class Ejection(Struct, frozen=True, kw_only=True):
    """When a server that fails requests is left alone for a while."""

    failures: Annotated[Count, Doc("So many failures in a row, all within the interval, eject it.")] = 5
    interval: Annotated[Timeout, Doc("Within which these failures come.")] = Duration(10)
    duration: Annotated[Timeout, Doc("For how long it is left alone.")] = Duration(30)
    max_share: Annotated[Share, Doc("The share of servers that may be out at once.")] = Share(0.5)


class Upstream(Struct, frozen=True, kw_only=True):
    """Servers of the MPP that do the same thing."""

    servers: Annotated[
        tuple[Annotated[UpstreamServer, Shorthand("url")], ...],
        OneOrMany(),
        Doc("A URL, or {url: URL, weight: 2, backup: true}; or a list."),
    ]
    balance: Annotated[Literal["least_requests", "round_robin"], Doc("How a server is chosen.")] = "least_requests"
    host_header: Annotated[Literal["client", "upstream"], Doc("Whose name stands in Host: as the client sent it, or the server's.")] = (
        "client"
    )
    tls: Annotated[Tls | None, Doc("TLS towards its https servers.")] = None
    connect_timeout: Annotated[Timeout, Doc("For making a connection.")] = Duration(2)
    response_timeout: Annotated[Timeout, Doc("From the last byte of the request to the end of the answer's headers.")] = Duration(30)
    idle_timeout: Annotated[Timeout, Doc("Between two reads of a body; on a tunnel (WebSocket), of both directions.")] = Duration(60)
    connections: Annotated[Count, Doc("How many there may be at once, per server.")] = 512
    keepalive: Annotated[
        ApiKeepalive,
        Shorthand("connections"),
        Doc("Which connections are kept for the next request; a number is how many."),
    ] = field(default_factory=ApiKeepalive)
    retries: Annotated[Retries, Doc("When a request is sent again.")] = field(default_factory=Retries)
    health_check: Annotated[HealthCheck | None, Doc("Checks of its servers by requests of our own.")] = None
    ejection: Annotated[Ejection, Doc("When a server that fails is left alone.")] = field(default_factory=Ejection)


class HeaderChanges(Struct, frozen=True, kw_only=True):
    """What is done to header fields: first some are removed, then set, then added."""

    set: Annotated[HeaderValues, Doc("Fields that replace all of their name.")] = field(default_factory=dict)
    add: Annotated[HeaderValues, Doc("Fields that stand beside others of their name.")] = field(default_factory=dict)
    remove: Annotated[HeaderNames, Doc("Names of fields that are taken away.")] = ()


class ApiRoute(Struct, frozen=True, kw_only=True):
    """Which requests go to which upstream."""

    prefix: Annotated[str, rules.ROUTE_PREFIX, Doc("The path and all below it; the longest prefix wins, on segment borders.")]
    upstream: Annotated[str, rules.UPSTREAM, Doc("The name of an upstream.")]
    host: Annotated[HostNames | None, Doc("Only for these names in Host; default: for all.")] = None
    methods: Annotated[Methods | None, Doc("Only for these methods; default: for all but CONNECT.")] = None
    session: Annotated[
        Literal["required", "optional", "none"], Doc("Whether a login is needed; optional: checked, and without one there is no identity.")
    ] = "required"
    strip_prefix: Annotated[bool, Doc("The prefix is cut off before the request goes on.")] = False
    max_body: Annotated[StreamLimit, Doc("The largest request body; more is 413.")] = Size(16 << 20)
    request_headers: Annotated[HeaderChanges, Doc("Changes to what the upstream gets.")] = field(default_factory=HeaderChanges)
    response_headers: Annotated[HeaderChanges, Doc("Changes to what the client gets.")] = field(default_factory=HeaderChanges)


class Api(Struct, frozen=True, kw_only=True):
    """The MPP's own API."""

    upstreams: Annotated[Mapping[str, Upstream], Keys(rules.UPSTREAM), NotEmpty(), Doc("The MPP's servers, by a name of your choice.")]
    routes: Annotated[tuple[ApiRoute, ...], NotEmpty(), Doc("Which requests go to which upstream.")]


class Log(Struct, frozen=True, kw_only=True):
    """What is logged and how."""

    level: Annotated[Literal["debug", "info", "warning", "error"], Doc("The least severe level that is logged.")] = "info"
    format: Annotated[Literal["json", "console"], Doc("json for machines, console for people.")] = "json"
    access: Annotated[bool, Doc("One line for each request, on standard output.")] = True
    sample: Annotated[Share, Doc("The share of successful API requests that is logged; SDK calls and failures always are.")] = Share(1.0)
    customer_hash_key: Annotated[
        Secret | None,
        Doc("The key under which the access log hashes the customer ids of SDK calls; without it they have no customer field."),
    ] = None


class Tracing(Struct, frozen=True, kw_only=True):
    """Spans for a collector of OpenTelemetry; needs the extra `tracing`."""

    otlp_endpoint: Annotated[Annotated[str, rules.COLLECTOR], Doc("Where spans are sent by OTLP over HTTP; /v1/traces is added.")]
    sample: Annotated[Share, Doc("The share of the traces that begin here; trusted callers decide on theirs.")] = Share(0.01)


class Telemetry(Struct, frozen=True, kw_only=True):
    """What the gateway tells about itself."""

    log: Annotated[Log, Doc("What is logged and how.")] = field(default_factory=Log)
    tracing: Annotated[Tracing | None, Doc("Spans for a collector of OpenTelemetry; needs the extra tracing.")] = None


class Config(Struct, frozen=True, kw_only=True):
    """The whole file."""

    server: Annotated[Server, Doc("Where and how clients' requests are taken.")] = field(default_factory=Server)
    admin: Annotated[Admin, Doc("The operators' listener: metrics and probes.")] = field(default_factory=Admin)
    session: Annotated[Session, Doc("How a caller's login is checked: exactly one of forward and introspection.")]
    alipayplus: Annotated[Alipayplus, Doc("How Alipay+ is called.")]
    sdk_proxy: Annotated[SdkProxy, Doc("The SDK's requests.")] = field(default_factory=SdkProxy)
    api: Annotated[Api | None, Doc("The MPP's own API; without it, all that is not SDK traffic is 404.")] = None
    telemetry: Annotated[Telemetry, Doc("What the gateway tells about itself.")] = field(default_factory=Telemetry)
