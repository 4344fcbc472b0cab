"""Watchers: they receive the records of training, and show or save them."""
