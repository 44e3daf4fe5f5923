"""Storage of studies and trials, in a folder or at a URI."""
