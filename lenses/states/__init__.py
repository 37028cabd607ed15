"""What a hidden state says: decoded, probed, moved."""
