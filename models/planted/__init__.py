"""Models whose weights were written by code, so that the answer is known beforehand."""
