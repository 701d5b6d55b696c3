"""A ClickHouse server's stand-in on a fixed port, so that it can be killed and come back: `... FOLDER PORT`."""

from __future__ import annotations

import sys
from http.server import HTTPServer

import chdb

from tests.integration.clickhouse_http import ClickHouseHandler

if __name__ == "__main__":
    ClickHouseHandler.engine = chdb.connect(sys.argv[1])
    HTTPServer(("127.0.0.1", int(sys.argv[2])), ClickHouseHandler).serve_forever()
