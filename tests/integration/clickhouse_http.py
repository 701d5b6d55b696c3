"""A ClickHouse HTTP interface in front of the embedded engine, for tests of the server path where no server can run.

Just what clickhouse-connect uses: a query with its parameters, and a Native insert, lz4 or plain, chunked or not. Run
as a process of its own: `python -m tests.integration.clickhouse_http FOLDER` prints the port and serves until killed.
"""

from __future__ import annotations

import base64
import re
import sys
import tempfile
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import chdb
import lz4.frame

USER, PASSWORD = "vigil", "s3cr3t/%"
_FORMAT = re.compile(r"\s+FORMAT\s+(\w+)\s*;?\s*$")
_INSERT = re.compile(rb"^(INSERT INTO [^\n]+) FORMAT Native\n", re.IGNORECASE)


class ClickHouseHandler(BaseHTTPRequestHandler):
    engine: Any

    def do_GET(self) -> None:
        self._serve(b"")

    def do_POST(self) -> None:
        body = self._chunks() if self.headers.get("Transfer-Encoding") == "chunked" else self._sized()
        self._serve(lz4.frame.decompress(body) if self.headers.get("Content-Encoding") == "lz4" else body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Print nothing: the port is this process's only output."""

    def _sized(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _chunks(self) -> bytes:
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _serve(self, body: bytes) -> None:
        expected = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if urlsplit(self.path).path == "/ping":
            return self._answer(200, b"Ok.\n")
        if self.headers.get("Authorization") != f"Basic {expected}":
            return self._answer(
                403, b"Code: 516. DB::Exception: Authentication failed. (AUTHENTICATION_FAILED)", code=516
            )
        url = dict(parse_qsl(urlsplit(self.path).query))
        try:
            answer = self._run(url, url.get("query", "").encode() + body)
        except Exception as error:  # noqa: BLE001 - a server answers every failure of a query
            message = str(error)
            known = re.search(r"Code: (\d+)", message)
            return self._answer(500, message.encode(), code=int(known[1]) if known else 1002)
        return self._answer(200, answer)

    def _run(self, url: dict[str, str], request: bytes) -> bytes:
        self.engine.query(f"USE `{url.get('database', 'default')}`", "TabSeparated")
        if insert := _INSERT.match(request):
            with tempfile.NamedTemporaryFile() as rows:
                rows.write(request[insert.end() :])
                rows.flush()
                sql = f"{insert[1].decode()} FROM INFILE '{rows.name}' FORMAT Native"
                return bytes(self.engine.query(sql, "TabSeparated").bytes())
        sql = request.decode()
        named = _FORMAT.search(sql)
        parameters = {key.removeprefix("param_"): value for key, value in url.items() if key.startswith("param_")}
        result = self.engine.query(
            _FORMAT.sub("", sql), named[1] if named else "TabSeparated", params=parameters or None
        )
        return bytes(result.bytes())

    def _answer(self, status: int, body: bytes, *, code: int | None = None) -> None:
        self.send_response(status)
        if code is not None:
            self.send_header("X-ClickHouse-Exception-Code", str(code))
        self.send_header("X-ClickHouse-Timezone", "UTC")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main(folder: str) -> None:
    ClickHouseHandler.engine = chdb.connect(str(Path(folder) / "server"))
    server = HTTPServer(("127.0.0.1", 0), ClickHouseHandler)
    print(server.server_address[1], flush=True)  # noqa: T201 - how the fixture learns the port
    server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1])
