"""Building and opening indexes."""
