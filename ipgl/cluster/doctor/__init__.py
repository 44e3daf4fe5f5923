"""Checks of a machine or cluster before a study spends time on it."""
