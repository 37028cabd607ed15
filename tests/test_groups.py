"""Tests that share what is expensive do run in one process."""

import os

import pytest


@pytest.mark.skipif("PYTEST_XDIST_WORKER" not in os.environ, reason="one process runs all tests")
def test_groups_take_effect(request):
    """pytest 9.2 with xdist 3.8 drops the groups silently (pytest-dev/pytest-xdist#1386)."""
    assert "@" in request.node.nodeid, "each test is a group of its own: pin pytest below 9.2"
