"""What a model predicts when something in it is removed or exchanged."""
