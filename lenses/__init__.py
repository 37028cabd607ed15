"""Model and one batch in, numbers out; and the running statistics that are kept of a stream."""
