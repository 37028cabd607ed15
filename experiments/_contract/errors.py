"""Requests that cannot be met, told in one line."""


class UsageError(Exception):
    """A request that cannot be met, in one line: what, where, and the remedy."""
