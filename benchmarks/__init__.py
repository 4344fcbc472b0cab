"""Programs that measure Epochal beside others; README.md says how to run them."""
