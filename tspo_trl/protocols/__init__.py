"""Protocols: how the model and the search engine talk to each other."""
