"""nginx behind the gateway and curl or nginx before it: what they say to each other directly and through the gateway is the same."""

import asyncio
import gzip
import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.passthrough.rig import StartRig
from tests.ports import free_port

CONFIGURATION = """
{user} daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
  access_log off; default_type text/plain; server_tokens on;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port}; listen unix:{folder}/nginx.sock; root {folder}/www;
    gzip on; gzip_min_length 1; gzip_types text/plain; absolute_redirect off;
    location /echo/ {{ add_header X-Target $request_uri always; add_header X-Host $http_host always; return 200 "$request_method\\n"; }}
    location /none {{ return 204; }}
    location /moved {{ return 301 /elsewhere?x=1; }}
    location /cookies {{ add_header Set-Cookie "a=1; Path=/"; add_header Set-Cookie "b=2; HttpOnly"; return 200 ok; }}
    location /teapot {{ return 418; }}
    location /put/ {{ dav_methods PUT DELETE; client_max_body_size 8m; }}
    location /small/ {{ client_max_body_size 1k; proxy_pass http://127.0.0.1:1; }}
    location ~ ^/before/([0-9]+)(/.*)$ {{ client_max_body_size 8m; proxy_pass http://127.0.0.1:$1$2; }}
  }}
}}
"""


@dataclass
class Nginx:
    """A running nginx with a few files."""

    folder: Path
    port: int


@pytest.fixture
async def nginx(tmp_path: Path) -> AsyncIterator[Nginx]:
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin") or pytest.skip("nginx is missing (Debian: nginx)")
    www = tmp_path / "www"
    (www / "put").mkdir(parents=True)
    (www / "directory").mkdir()
    (www / "directory" / "index.html").write_text("<p>index\n")
    (www / "page.txt").write_text("0123456789" * 100)
    (www / "large.bin").write_bytes(os.urandom(1 << 20))
    (www / "a b%.txt").write_text("odd name")
    port = free_port()
    file = tmp_path / "nginx.conf"
    file.write_text(CONFIGURATION.format(folder=tmp_path, port=port, user="user root;" if os.geteuid() == 0 else ""))
    process = await asyncio.create_subprocess_exec(program, "-e", tmp_path / "error.log", "-c", file, "-p", tmp_path)
    async with asyncio.timeout(10):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                break
    yield Nginx(tmp_path, port)
    process.terminate()
    await process.wait()


async def curl(port: int, target: str, *options: str) -> tuple[int, bytes]:
    """Give curl's exit code and what it prints: heads and body."""
    program = shutil.which("curl") or pytest.skip("curl is missing (Debian: curl)")
    url = f"http://127.0.0.1:{port}{target}"
    words = [program, "-q", "-s", "-i", "--raw", "--path-as-is", "-m", "20", "-H", "Host: wallet.example", *options, url]
    process = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.DEVNULL)
    out, _ = await process.communicate()
    return process.returncode or 0, out


def comparable(printed: bytes) -> tuple[list[bytes], bytes]:
    """Give the head's lines, sorted, but for those that belong to one connection or name one moment, and the body."""
    heads, _, body = printed.rpartition(b"\r\n\r\n") if b"chunked" not in printed else printed.partition(b"\r\n\r\n")
    own = (b"connection:", b"keep-alive:", b"date:", b"x-request-id:")
    first, *lines = heads.split(b"\r\n")
    return [first, *sorted(line for line in lines if not line.lower().startswith(own))], body


TARGETS = {
    "file": ("/page.txt",),
    "head": ("/page.txt", "-I"),
    "gzip": ("/page.txt", "-H", "Accept-Encoding: gzip"),
    "gzip-asked-for-by-curl": ("/page.txt", "--compressed"),
    "range": ("/page.txt", "-r", "5-9"),
    "several-ranges": ("/page.txt", "-r", "0-1,5-6", "-H", "If-Range: x"),
    "range-beyond": ("/page.txt", "-r", "5000-"),
    "not-modified": ("/page.txt", "-H", "If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT"),
    "precondition": ("/page.txt", "-H", 'If-Match: "nope"'),
    "large": ("/large.bin",),
    "odd-name": ("/a%20b%25.txt",),
    "directory": ("/directory/",),
    "directory-without-slash": ("/directory",),
    "missing": ("/missing",),
    "no-content": ("/none",),
    "redirect": ("/moved",),
    "cookies": ("/cookies",),
    "unknown-status": ("/teapot",),
    "options": ("/page.txt", "-X", "OPTIONS"),
    "target-byte-for-byte": ("/echo/a%2Fb//c;d=e/%E2%82%AC?x=%zz&&y=a+b&?#fragment",),
    "empty-query": ("/echo/?",),
    "post": ("/echo/", "-d", "a=1"),
    "post-chunked": ("/echo/", "-d", "a=1", "-H", "Transfer-Encoding: chunked"),
    "post-empty": ("/echo/", "-X", "POST"),
    "expect": ("/put/e", "-X", "PUT", "-d", "a=1", "-H", "Expect: 100-continue"),
    "HTTP-1.0": ("/page.txt", "-0"),
}


@pytest.mark.parametrize("words", TARGETS.values(), ids=TARGETS)
async def test_curl_prints_the_same(start_rig: StartRig, nginx: Nginx, words: tuple[str, ...]) -> None:
    rig = await start_rig(f"http://127.0.0.1:{nginx.port}")
    direct = await curl(nginx.port, *words)
    (nginx.folder / "www" / "put" / "e").unlink(missing_ok=True)
    through = await curl(rig.port, *words)
    assert through[0] == direct[0]
    assert comparable(through[1]) == comparable(direct[1])


async def test_a_unix_socket_is_an_upstream_too(start_rig: StartRig, nginx: Nginx) -> None:
    rig = await start_rig(f"unix:{nginx.folder}/nginx.sock")
    direct, through = await curl(nginx.port, "/page.txt"), await curl(rig.port, "/page.txt")
    assert comparable(through[1]) == comparable(direct[1])


async def test_files_go_both_ways(start_rig: StartRig, nginx: Nginx, tmp_path: Path) -> None:
    rig = await start_rig(f"http://127.0.0.1:{nginx.port}")
    content = gzip.compress(os.urandom(4 << 20))
    (tmp_path / "up").write_bytes(content)
    code, printed = await curl(rig.port, "/put/file", "-T", str(tmp_path / "up"), "-H", "Expect:")
    assert (code, b" 201 " in printed) == (0, True)
    assert (nginx.folder / "www" / "put" / "file").read_bytes() == content
    code, _ = await curl(rig.port, "/put/file", "-o", str(tmp_path / "down"), "-H", "Accept:", "--no-include")
    assert (code, (tmp_path / "down").read_bytes().endswith(content[-1000:])) == (0, True)
    code, printed = await curl(rig.port, "/put/file", "-X", "DELETE")
    assert b" 204 " in printed


async def test_a_body_too_large_for_nginx_gets_its_answer(start_rig: StartRig, nginx: Nginx, tmp_path: Path) -> None:
    rig = await start_rig(f"http://127.0.0.1:{nginx.port}")
    (tmp_path / "up").write_bytes(os.urandom(4 << 20))
    for headers in (["-H", "Expect:"], ["-H", "Expect: 100-continue"], ["-H", "Transfer-Encoding: chunked", "-H", "Expect:"]):
        _, printed = await curl(rig.port, "/small/x", "-T", str(tmp_path / "up"), *headers)
        assert printed.startswith(b"HTTP/1.1 413 Request Entity Too Large\r\n"), headers


async def test_a_body_that_is_refused_reaches_its_answer_through_a_trusted_nginx(start_rig: StartRig, nginx: Nginx, tmp_path: Path) -> None:
    """nginx sends all that it holds of a body before it looks for an answer."""
    rig = await start_rig(f"http://127.0.0.1:{nginx.port}", max_body=1024, trusted=["127.0.0.0/8"])
    (tmp_path / "up").write_bytes(os.urandom(6 << 20))
    for _ in range(10):
        _, printed = await curl(nginx.port, f"/before/{rig.port}/x", "-T", str(tmp_path / "up"), "-H", "Expect:")
        assert (printed.split(b"\r\n")[0], b"REQUEST_TOO_LARGE" in printed) == (b"HTTP/1.1 413 Request Entity Too Large", True)
