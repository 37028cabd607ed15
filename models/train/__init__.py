"""Training small adders from their cards, in steps: `python -m models.train CARD`."""
