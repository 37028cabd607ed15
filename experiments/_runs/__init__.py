"""From a name to a finished folder: registry, arguments, manifest, store, run, suite."""
