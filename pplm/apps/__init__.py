"""Edges beside the command line: what is looked at, played with and asked from elsewhere."""
