"""One service and one model for all tests of other products' clients, and one proxy for the tests of each page."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integrations.proxy import Proxy
from tests.integrations.stub_model import StubModel
from tests.running_service import RunningService

CANARY = "canary-5d1f-kappa"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave these tests out where the clients are not installed; `make test-integrations` installs them."""
    if "INTEGRATIONS_BIN" in os.environ:
        return
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.skip(reason="runs with `make test-integrations`"))


@pytest.fixture(scope="session")
def binaries() -> Path:
    """The folder of the clients' commands."""
    return Path(os.environ["INTEGRATIONS_BIN"])


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    # Other work on the machine is no reason for a test to fail.
    environment = {"VIGIL_CANARIES": CANARY, "VIGIL_GATEWAYS__DEADLINE_MS": "9000"}
    running = RunningService(tmp_path_factory.mktemp("service"), environment)
    try:
        yield running.start()
    finally:
        running.end()


@pytest.fixture(scope="session")
def _model() -> Iterator[StubModel]:
    model = StubModel()
    yield model
    model.close()


@pytest.fixture
def model(_model: StubModel) -> StubModel:
    """The model, which has not been asked anything yet."""
    _model.requests.clear()
    _model.answer = "Paris."
    return _model


@pytest.fixture(scope="module")
def proxy(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    binaries: Path,
    service: RunningService,
    _model: StubModel,
) -> Iterator[Proxy]:
    """LiteLLM's proxy, set up as the page that the test module names in PAGE."""
    made = Proxy(
        request.module.PAGE,
        tmp_path_factory.mktemp("proxy"),
        binaries,
        service_url=service.url,
        model_url=_model.url,
    )
    try:
        yield made.start()
    finally:
        made.stop()
