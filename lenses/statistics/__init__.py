"""Numbers in, numbers out: intervals, tests, correlations; neither torch nor a model."""
