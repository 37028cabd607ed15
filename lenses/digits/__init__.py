"""The states of digits and of their decimal places."""
