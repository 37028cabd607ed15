"""Tests that share what is expensive to make run in one process, and what takes longest first."""

import pytest

LONG = ("test_browser", "test_run", "test_every_experiment", "test_prompt_relevance", "test_train")


@pytest.hookimpl(wrapper=True)  # before xdist writes the groups down
def pytest_collection_modifyitems(items):
    """A group is a file; of the generic tests, what they ask of one experiment."""
    for item in items:
        params = getattr(item, "callspec", None)
        kind = params.params.get("kind", params.params.get("claiming")) if params else None
        name = f"{item.path}:{kind}" if isinstance(kind, str) else str(item.path)
        item.add_marker(pytest.mark.xdist_group(name))
    items.sort(key=lambda item: item.path.stem not in LONG)
    return (yield)
