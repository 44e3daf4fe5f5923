"""Trials on a Ray cluster; the only package, beside `cluster`, that imports ray."""
