"""The search engines."""
