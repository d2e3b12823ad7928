"""An app that goes on for ever, so that there is something to see: SDK requests, the wallet's own API, and a login that is none.

python app.py URL [--once]
"""

import itertools
import sys
import time
from collections.abc import Iterator
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.request import Request, urlopen

PAUSE = 0.5  # seconds
PATIENCE = 20  # seconds; longer than the gateway's own limits
BODY = b'{"scene": "PROXY_SCENE_PAY", "proxyRequestHeader": "any", "proxyRequestData": "text"}'


def requests(url: str) -> Iterator[Request]:
    """Give one round of requests."""
    for name in ("anna", "budi", "citra"):
        login = {"Authorization": f"Bearer demo-token-{name}"}
        yield Request(f"{url}/alipayplus/v1/sdkProxy", BODY, {**login, "Content-Type": "application/json"})  # noqa: S310  the URL is ours
        yield Request(f"{url}/api/balance", headers=login)  # noqa: S310
    yield Request(f"{url}/api/balance", headers={"Authorization": "Bearer nobody"})  # noqa: S310


def status(request: Request) -> str:
    """Send a request; return the answer's status, or why there is none."""
    try:
        with urlopen(request, timeout=PATIENCE) as answer:  # noqa: S310
            answer.read()
            return str(answer.status)
    except HTTPError as error:
        return str(error.code)
    except (OSError, HTTPException) as error:
        return type(error).__name__


def main(url: str, *options: str) -> None:
    """Send rounds of requests, each told in a line."""
    for _ in range(1) if "--once" in options else itertools.count():
        for request in requests(url):
            sys.stdout.write(f"{request.get_method()} {request.selector} {status(request)}\n")
            sys.stdout.flush()
            time.sleep(PAUSE)


if __name__ == "__main__":
    main(*sys.argv[1:])
