"""What an experiment is written with: Experiment, Claim, Table, Reading, stream, rows."""
