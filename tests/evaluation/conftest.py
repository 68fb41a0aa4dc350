"""The other side of parity tests of evaluation."""

import sys
from unittest import mock

import pytest


@pytest.fixture
def torch_fidelity(monkeypatch):
    """The package torch_fidelity, without torchvision, which only its data sets need."""
    pytest.importorskip("torch", reason="parity with PyTorch needs the extra parity")
    for name in ("", ".datasets", ".transforms", ".transforms.functional"):
        monkeypatch.setitem(sys.modules, f"torchvision{name}", mock.MagicMock())
    return pytest.importorskip("torch_fidelity", reason="parity with torch-fidelity needs the extra parity")
