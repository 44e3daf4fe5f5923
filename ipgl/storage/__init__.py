"""Where studies and trials are kept, on a disk or behind a URI."""
