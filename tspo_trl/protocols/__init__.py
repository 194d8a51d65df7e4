"""Protocols: how the model and the search engine exchange text."""
