"""What a head writes, what it is worth, and what it selects."""
