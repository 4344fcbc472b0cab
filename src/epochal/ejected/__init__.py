"""A run as one plain PyTorch program."""
