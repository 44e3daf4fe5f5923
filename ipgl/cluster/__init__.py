"""Submission of studies as jobs of a Ray cluster, and checks of its nodes."""
