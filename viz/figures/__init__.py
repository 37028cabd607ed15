"""Figures, one shape a file: tidy tables in, drawings out."""
