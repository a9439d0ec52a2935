"""nginx, for everybody: the bytes, rclone's listings, and as much of the Figshare API as a mount reads by.

It has a port for each *line*: a way to be far away. Latency is a sleep before each answer (nginx's Lua
module), so that no relay is in the way of the bytes; a redirect costs it as well as a range. The cap of a
connection is the kernel's: the listening socket has SO_MAX_PACING_RATE, which accepted ones inherit. (nginx's
own limit_rate is coarse: a request of 4 MiB at 20 MB/s was done at 35.) The sockets are made here and handed
to nginx, so that the ports are free for certain.

Presigned URLs live ten seconds, as the service's (quirks D10): 403 afterwards.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import datasets, receiver
from benchmarks.datasets import Dataset

SO_MAX_PACING_RATE = 47  # not in Python's socket module
CAP = 20_000_000  #: bytes a second for a connection of a capped line
WORKERS = 2
START_TIMEOUT = 10.0  #: seconds


class BenchError(Exception):
    """The bench cannot go on; the text says why."""


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    """How far away the server is: seconds before each answer, bytes a second for each connection."""

    name: str
    latency: float = 0.0
    capped: bool = False
    tls: bool = False


LINES = {
    line.name: line
    for line in (
        Line("plain"),
        Line("tls", tls=True),
        Line("20ms", latency=0.02),
        Line("50ms", latency=0.05),
        Line("100ms", latency=0.1),
        Line("20MB", capped=True),
        Line("50ms-20MB", latency=0.05, capped=True),
    )
}


@dataclasses.dataclass(frozen=True, slots=True)
class Traffic:
    """What went over the server in a stretch of time; bytes are those of files."""

    fetched: int = 0
    metadata: int = 0
    redirects: int = 0
    ranges: int = 0
    parts: int = 0


def count(lines: Sequence[str]) -> Traffic:
    """The traffic in lines of the access log: method, status, bytes of the body, path and query."""
    fetched = metadata = redirects = ranges = parts = 0
    for line in lines:
        method, _, sent, uri = line.split(" ", 3)
        path = uri.partition("?")[0]
        if re.search(r"/v2/file/download/\d+$", path):
            redirects += 1
        elif path.startswith("/upload/") or method == "PUT":
            parts += 1
        elif method == "GET" and path.startswith(("/storage/", "/files/")) and not path.endswith("/"):
            ranges += 1
            fetched += int(sent)
        else:
            metadata += 1
    return Traffic(fetched, metadata, redirects, ranges, parts)


class Server:
    """Use as a context manager: nginx runs within. ``root``: a directory to make, on tmpfs."""

    def __init__(self, root: Path, *, size: int) -> None:
        self.root = root
        self.certificate = root / "certificate.pem"
        self.webdav_port = receiver.free_port()
        self._size = size
        self._datasets: dict[str, Dataset] = {}
        self._published: set[tuple[str, str]] = set()
        self._sockets: dict[str, socket.socket] = {}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Server:
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        for listening in self._sockets.values():
            listening.close()

    # -- addresses --

    def api(self, dataset: str, line: Line) -> str:
        """The base URL of a dataset's API."""
        return f"{self._origin(line)}/{dataset}/v2"

    def listing(self, dataset: str, line: Line) -> str:
        """Where rclone finds a dataset's articles, and curl its files."""
        return f"{self._origin(line)}/files/{dataset}/"

    def _origin(self, line: Line) -> str:
        return f"{'https' if line.tls else 'http'}://127.0.0.1:{self._port(line)}"

    def _port(self, line: Line) -> int:
        port = self._sockets[line.name].getsockname()[1]
        assert isinstance(port, int)
        return port

    def stored(self, article: int) -> list[tuple[str, list[Path]]]:
        """Name and parts of each file that has been uploaded to an article, and completed."""
        return receiver.stored(self._origin(LINES["plain"]), self.root, article)

    def webdav(self, line: Line) -> str:
        """Where ``receiver.webdav`` serves; without latency nothing is between it and who writes."""
        if not line.latency:
            return f"http://127.0.0.1:{self.webdav_port}/dav/"
        return f"{self._origin(line)}/dav/"

    def part(self, line: Line, name: str) -> str:
        """Where a part can be PUT by itself."""
        return f"{self._origin(line)}/upload/{name}/1"

    def source(self, dataset: str, *parts: str) -> Path:
        """The file itself, in memory."""
        return self.root.joinpath("files", dataset, *parts)

    # -- content --

    def serve(self, name: str, line: Line) -> Dataset:
        """Make sure that a dataset is there and its API answers on a line."""
        if name not in self._datasets:
            self._datasets[name] = datasets.make(name, self.root, self._size)
        dataset = self._datasets[name]
        if (name, line.name) not in self._published:
            directory = self.root / "api" / str(self._port(line)) / name
            datasets.publish(dataset, directory, self.api(name, line))
            self._published.add((name, line.name))
        return dataset

    # -- what was asked --

    def mark(self) -> int:
        """A point in time, for ``since``."""
        return self._log.stat().st_size

    def since(self, mark: int) -> Traffic:
        """What has been answered since ``mark``. What is still on its way is not in it."""
        with self._log.open("rb") as log:
            log.seek(mark)
            return count(log.read().decode().splitlines())

    @property
    def _log(self) -> Path:
        return self.root / "access.log"

    # -- nginx --

    def _start(self) -> None:
        self.root.mkdir()
        for line in LINES.values():
            self._sockets[line.name] = _listen(CAP if line.capped else None)
        _make_certificate(self.root)
        api = self.root / "api"
        (api / "after").mkdir(parents=True)
        (api / "none.json").write_text("[]")
        for page in range(2, datasets.LAST_PAGE + 1):
            (api / "after" / f"{page}.json").write_text("[]")
        self._log.touch()
        config = self.root / "nginx.conf"
        config.write_text(self._config())
        descriptors = [listening.fileno() for listening in self._sockets.values()]
        self._process = subprocess.Popen(
            [program(), "-p", self.root, "-c", config, "-e", self.root / "error.log"],
            # What nginx calls this for an upgrade of itself: these sockets are open already.
            env={"PATH": os.environ.get("PATH", ""), "NGINX": "".join(f"{fd};" for fd in descriptors)},
            pass_fds=descriptors,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the bench alone
        )
        self._wait()

    def _wait(self) -> None:
        assert self._process is not None
        assert self._process.stderr is not None
        give_up_at = time.monotonic() + START_TIMEOUT
        while not (self.root / "nginx.pid").exists():
            if self._process.poll() is not None:
                raise BenchError(f"nginx does not start: {self._process.stderr.read().decode().strip()}")
            if time.monotonic() > give_up_at:
                raise BenchError("nginx does not start")
            time.sleep(0.01)

    def _config(self) -> str:
        modules = module_directory()
        servers = "\n".join(self._server(line) for line in LINES.values())
        # Workers of a root's nginx would be nobody, who may not read what is here.
        user = "user root;\n" if os.geteuid() == 0 else ""
        return f"""{user}daemon off;
worker_processes {WORKERS};
pid {self.root}/nginx.pid;
load_module {modules}/ndk_http_module.so;
load_module {modules}/ngx_http_lua_module.so;
events {{ worker_connections 4096; }}
http {{
    root {self.root};
    proxy_temp_path {self.root}/temporary;
    fastcgi_temp_path {self.root}/temporary;
    uwsgi_temp_path {self.root}/temporary;
    scgi_temp_path {self.root}/temporary;
    log_format counted '$request_method $status $body_bytes_sent $request_uri';
    access_log {self._log} counted;
    default_type application/octet-stream;
    sendfile on;
    client_max_body_size 0;
{receiver.shared(self.root)}
    tcp_nopush on;
    keepalive_requests 1000000;
    autoindex_exact_size on;
    ssl_certificate {self.certificate};
    ssl_certificate_key {self.root}/key.pem;
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_session_cache shared:tls:1m;
{servers}
}}
"""

    def _server(self, line: Line) -> str:
        sleep = f"ngx.sleep({line.latency})" if line.latency else ""
        here = f"/api/{self._port(line)}/$set"
        return f"""    server {{
        listen 127.0.0.1:{self._port(line)}{" ssl" if line.tls else ""};
        access_by_lua_block {{ {sleep} }}
        location /files/ {{ autoindex on; }}
{receiver.locations(self.root, CAP if line.capped else None, self.webdav_port)}
        location /storage/ {{
            access_by_lua_block {{
                {sleep}
                local signed = ngx.req.get_uri_args()["X-Amz-Date"]
                if not signed or signed <= os.date("!%Y%m%dT%H%M%SZ", ngx.time() - 10) then
                    return ngx.exit(403)
                end
            }}
        }}
        location ~ ^/\\w+/v2/file/download/\\d+$ {{
            content_by_lua_block {{
                local set, id = string.match(ngx.var.uri, "^/(%w+)/v2/file/download/(%d+)$")
                local now = os.date("!%Y%m%dT%H%M%SZ", ngx.time())
                local origin = ngx.var.scheme .. "://" .. ngx.var.http_host
                return ngx.redirect(origin .. "/storage/" .. set .. "/" .. id
                    .. "?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date=" .. now
                    .. "&X-Amz-Expires=10&X-Amz-SignedHeaders=host&X-Amz-Signature=0000", 302)
            }}
        }}
        location ~ ^/(?<set>\\w+)/v2/account$ {{
            default_type application/json;
            try_files {here}/account.json =404;
        }}
        location ~ ^/\\w+/v2/account/(projects|collections)$ {{
            default_type application/json;
            try_files /api/none.json =404;
        }}
        location ~ ^/(?<set>\\w+)/v2/account/articles$ {{
            default_type application/json;
            try_files {here}/articles-$arg_page_size-$arg_page.json /api/after/$arg_page.json =404;
        }}
        location ~ ^/(?<set>\\w+)/v2/account/articles/(?<article>\\d+)$ {{
            default_type application/json;
            try_files {here}/articles/$article.json =404;
        }}
        location ~ ^/(?<set>\\w+)/v2/account/articles/(?<article>\\d+)/files$ {{
            default_type application/json;
            try_files {here}/files/$article-$arg_page_size-$arg_page.json /api/after/$arg_page.json =404;
        }}
        location / {{ return 404; }}
    }}"""


def program() -> str:
    """nginx, which is in /usr/sbin, where a user may not look. ``BenchError`` if it is not there."""
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise BenchError("nginx is not installed")
    return found


def module_directory() -> Path:
    """Where nginx's modules are. ``BenchError`` if Lua's is not there."""
    said = subprocess.run([program(), "-V"], capture_output=True, text=True, check=True).stderr
    found = re.search(r"--modules-path=(\S+)", said)
    directory = Path(found[1] if found else "/usr/lib/nginx/modules")
    if not (directory / "ngx_http_lua_module.so").exists():
        raise BenchError("nginx's Lua module is not installed (Debian: libnginx-mod-http-lua)")
    return directory


def version() -> str:
    said = subprocess.run([program(), "-v"], capture_output=True, text=True, check=True).stderr
    return said.strip().rpartition(" ")[2]


def _listen(pace: int | None) -> socket.socket:
    listening = socket.socket()
    if pace is not None:
        listening.setsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE, pace)
    listening.bind(("127.0.0.1", 0))
    listening.listen(511)
    # nginx takes it as it is: a worker that comes second for a connection would wait for ever in accept().
    listening.setblocking(False)
    return listening


def _make_certificate(directory: Path) -> None:
    """A certificate for 127.0.0.1, which is its own authority; gone with the directory."""
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=figfs bench",
    ]
    command += ["-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", str(directory / "key.pem"), "-out", str(directory / "certificate.pem")]
    try:
        subprocess.run(command, capture_output=True, text=True, check=True)
    except subprocess.CalledProcessError as failed:
        raise BenchError(f"no certificate: {failed.stderr}") from failed
