"""What the simulated Alipay+ can be told to answer. The value only; the bytes are made by `gateway.simulator.answers`."""

from typing import Annotated, Final, Literal

from msgspec import Meta

from gateway.simulator.delivery import Delivery, Headers, Line, Status

MAX_SIZE: Final = 64 * 1024 * 1024

AnswerHeader = Literal["client-id", "response-time", "signature", "content-type"]


class Behaviour(Delivery, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One answer of the simulated Alipay+; without any field, a signed SUCCESS with the specification's sample strings.

    As JSON it is an object of the fields that differ from their defaults: `{"code": "PROCESS_FAIL", "delay": 0.5}`.

    The result: `code`, `status` (by default the documented one of the code, F for others), `message`, and `result_form`, the form in
    which it stands (`text` is a JSON text in a string). `strings`: `sample` and `echo` (the request's own two, byte for byte) or
    `none`; `auto` is sample for an S and none for others. `header` and `data` replace one of them. `size` makes sdkResponseData that
    many bytes long.

    The body: `content` breaks it (a BOM before it, a byte that is no UTF-8 in it, no JSON at all); `text` or `body` (in JSON:
    base64) replaces it. `coding: gzip` compresses it after it was signed.

    The HTTP answer: with an `http_status` other than 200 the body is a short text, without a signature. `headers` are added, and a
    3xx without a Location points back to the same API.

    The signature: `signed: false` leaves it and the response time out, `omit` any of the headers. `key: stranger` signs with a key
    that nobody knows; `key_version`, `algorithm` and `client_id` are what the headers say; `digest` is what the signature is made
    over. `response_time` is used in header and signature; `signed_path`, `signed_time` and `signed_client_id` stand in the signed
    text only. `tampered` inserts a space into the JSON after signing. `signature_form` is how the header is written: all but the
    last two mean the same.
    """

    code: str = "SUCCESS"
    status: str | None = None
    message: str | None = None
    result_form: Literal["text", "object", "absent", "null", "junk"] = "text"
    strings: Literal["auto", "sample", "echo", "none"] = "auto"
    header: str | None = None
    data: str | None = None
    size: Annotated[int, Meta(ge=0, le=MAX_SIZE)] = 0

    content: Literal["json", "bom", "invalid_utf8", "not_json"] = "json"
    text: str | None = None
    body: bytes | None = None
    coding: Literal["identity", "gzip"] = "identity"

    http_status: Status = 200
    headers: Headers = ()

    signed: bool | None = None
    omit: tuple[AnswerHeader, ...] = ()
    key: Literal["own", "stranger"] = "own"
    key_version: Line | None = None
    algorithm: Line = "RSA256"
    digest: Literal["sha256", "sha1", "sha512"] = "sha256"
    client_id: Line | None = None
    response_time: Line | None = None
    signed_path: str | None = None
    signed_time: str | None = None
    signed_client_id: str | None = None
    tampered: bool = False
    signature_form: Literal["standard", "spaces", "reordered", "lower_case_escapes", "raw", "junk", "incomplete"] = "standard"
