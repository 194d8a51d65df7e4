"""What vLLM on a CPU lacks to serve a model that is being trained: a plugin, and both ends of a weight transfer."""
