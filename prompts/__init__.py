"""Text with its ground truth, and nothing that needs a model."""
