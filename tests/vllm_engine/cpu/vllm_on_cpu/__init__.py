"""Additions to vLLM on a CPU that training needs: a plugin, and both ends of a weight transfer."""
