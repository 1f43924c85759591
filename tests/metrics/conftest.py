"""Models with tone heads for the tests of metrics: the embedded networks with heads of random weights."""

from __future__ import annotations

import pytest
import toned


@pytest.fixture(scope="session")
def static(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(toned.save(tmp_path_factory.mktemp("toned") / "static-tone", "static"))


@pytest.fixture(scope="session")
def mini(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(toned.save(tmp_path_factory.mktemp("toned") / "mini-tone", "mini"))


@pytest.fixture(params=["static", "mini"])
def model(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(request.param)
    return found
