"""Fixtures every test gets."""

import pytest
import torch
from hosts import either_host, host, old_host  # noqa: F401 - for the tests in nodes/ and browser/
from places import ROOT, shared_dir  # noqa: F401 - offered to tests from here too


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
