from __future__ import annotations

import pytest

from tests.runs import toy_learner


@pytest.fixture(scope="session")
def toys():
    """Starts toy runs as processes of their own."""
    server = toy_learner.Server()
    yield server
    server.close()
