"""Exported models: files that take raw inputs and answer with probabilities or quantities, without Epochal."""
