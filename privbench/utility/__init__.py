"""Utility: accuracy and robustness of models."""
