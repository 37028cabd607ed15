"""Adders and their carries."""
