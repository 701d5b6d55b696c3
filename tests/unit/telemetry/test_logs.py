"""Log lines: one format for all loggers, the ids of the work, and nothing that could be a text."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import sys
import traceback
from collections.abc import Iterator

import pytest
from uvicorn.config import LOGGING_CONFIG
from uvicorn.logging import AccessFormatter

from app import tasks
from app.identity import new_request_id
from app.settings import LogSettings
from app.telemetry import correlation, logs
from app.telemetry.correlation import Correlation
from tests.spans import CALLER, TRACE_ID

TOUCHED = ("", "vigil", "uvicorn", "uvicorn.error", "uvicorn.access")


@pytest.fixture(autouse=True)
def loggers_as_they_were() -> Iterator[None]:
    kept = {name: (logger := logging.getLogger(name), logger.handlers[:], logger.propagate) for name in TOUCHED}
    yield
    for logger, handlers, propagate in kept.values():
        logger.handlers[:], logger.propagate = handlers, propagate


def record(message: str = "a line", *args: object, **fields: object) -> logging.LogRecord:
    made = logging.LogRecord("vigil.test", logging.INFO, "", 0, message, args, None)
    vars(made).update(fields)
    return made


def test_a_line_written_while_a_request_is_worked_on_carries_its_ids() -> None:
    request_id = new_request_id()
    token = correlation.begin(Correlation(request_id, CALLER))
    line = json.loads(logs.JsonLines().format(record()))
    plain = logs.PlainLines().format(record())
    correlation.end(token)
    assert (line["request_id"], line["trace_id"]) == (str(request_id), TRACE_ID)
    assert f"request_id={request_id} trace_id={TRACE_ID}" in plain


def test_what_a_call_says_itself_counts_more() -> None:
    token = correlation.begin(Correlation(new_request_id(), CALLER))
    line = json.loads(logs.JsonLines().format(record(request_id="its own")))
    correlation.end(token)
    assert line["request_id"] == "its own"


def test_outside_of_any_work_there_are_no_ids() -> None:
    assert json.loads(logs.JsonLines().format(record())).keys() == {"time", "level", "logger", "message"}


def test_threads_know_what_they_work_for() -> None:
    request_id = new_request_id()
    threads = tasks.ContextThreads(1)
    threads.submit(int).result()  # The thread exists before the work does.
    token = correlation.begin(Correlation(request_id))
    line = threads.submit(logs.JsonLines().format, record()).result()
    correlation.end(token)
    threads.shutdown()
    assert json.loads(line)["request_id"] == str(request_id)


def test_the_web_servers_lines_have_the_same_format(capsys: pytest.CaptureFixture[str]) -> None:
    logging.config.dictConfig(LOGGING_CONFIG)
    logging.getLogger().handlers[:] = []
    logs.configure(LogSettings(json_lines=True))
    logging.getLogger("uvicorn.error").info("Started")
    logging.getLogger("uvicorn.access").info(
        '%s - "%s %s HTTP/%s" %d', "127.0.0.1:1", "POST", "/guard?text=a+secret", "1.1", 200
    )
    logging.getLogger("uvicorn.error").info('%s - "WebSocket %s" %d', "127.0.0.1:1", "/guard?text=a+secret", 403)
    logging.getLogger("another.library").warning("a warning")
    written = capsys.readouterr()
    lines = [json.loads(line) for line in (written.err + written.out).splitlines()]
    assert [line["message"] for line in lines] == [
        "Started",
        '127.0.0.1:1 - "WebSocket /guard" 403',
        "a warning",
        '127.0.0.1:1 - "POST /guard HTTP/1.1" 200',
    ]


def test_access_lines_that_were_turned_off_stay_off() -> None:
    logging.config.dictConfig(LOGGING_CONFIG)
    access = logging.getLogger("uvicorn.access")
    access.handlers, access.propagate = [], False  # What uvicorn does for --no-access-log.
    logs.configure(LogSettings())
    assert not access.hasHandlers()


def test_a_logging_configuration_of_the_operator_stays() -> None:
    logging.config.dictConfig(LOGGING_CONFIG)
    own = logging.Formatter("own %(message)s")
    logging.getLogger("uvicorn").handlers[0].setFormatter(own)
    logs.configure(LogSettings())
    assert logging.getLogger("uvicorn").handlers[0].formatter is own
    assert not isinstance(logging.getLogger("uvicorn.access").handlers[0].formatter, AccessFormatter)


def test_no_line_quotes_an_exception() -> None:
    made = record()
    try:
        raise ValueError("a secret text")
    except ValueError:
        made.exc_info = sys.exc_info()
    for formatter in (logs.JsonLines(), logs.PlainLines()):
        assert "ValueError" in formatter.format(made)
        assert "secret" not in formatter.format(made)


async def test_a_failure_that_nobody_awaits_is_named_by_class(caplog: pytest.LogCaptureFixture) -> None:
    asyncio.get_running_loop().set_exception_handler(tasks.report)

    async def fail() -> None:
        raise ValueError("a secret text")

    task = asyncio.create_task(fail(), name="the task")
    await asyncio.wait([task])
    del task
    await asyncio.sleep(0)
    assert "the task failed unnoticed: ValueError" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize("chained", [False, True])
def test_a_start_that_fails_is_logged_by_class_and_place_and_quotes_nothing(chained: bool) -> None:
    """Starlette hands the whole traceback to the web server as a line, with the text of the error at its end."""
    logs.configure(LogSettings())
    try:
        try:
            raise ValueError("kappa")
        except ValueError as error:
            raise RuntimeError("omega\nsecond: line") from error if chained else None
    except RuntimeError:
        told = traceback.format_exc()
    made = logging.LogRecord("uvicorn.error", logging.ERROR, "", 0, told, None, None)
    assert logging.getLogger("uvicorn.error").filter(made)
    assert re.fullmatch(rf"RuntimeError at {re.escape(__file__)}:\d+", made.getMessage())


def test_other_lines_of_the_web_server_stay_as_they_are() -> None:
    logs.configure(LogSettings())
    made = logging.LogRecord("uvicorn.error", logging.INFO, "", 0, "Started server process [%d]", (7,), None)
    assert logging.getLogger("uvicorn.error").filter(made)
    assert made.getMessage() == "Started server process [7]"
