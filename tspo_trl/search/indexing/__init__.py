"""Builds indexes and opens them."""
