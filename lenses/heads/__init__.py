"""What a head writes, what it is worth, and what it selects."""

from lenses.heads.reading import HeadsRead, read

__all__ = ["HeadsRead", "read"]
