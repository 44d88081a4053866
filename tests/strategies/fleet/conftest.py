"""Messages can be made in every test here."""

import pytest

from strategies.compat import task_identity


@pytest.fixture(autouse=True)
def identity():
    with task_identity():
        yield
