"""Questions asked of transformers: one file is one experiment, and the file's stem is its name."""

from experiments._contract.claims import Claim
from experiments._contract.experiment import Experiment, Results, UsageError

__all__ = ["Claim", "Experiment", "Results", "UsageError"]
