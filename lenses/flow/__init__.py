"""Which token reaches which, and along which edge."""
