"""Trials: training and testing one model from a complete configuration, without Ray."""
