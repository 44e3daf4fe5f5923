"""One trial from its configuration to its result, without Ray."""
