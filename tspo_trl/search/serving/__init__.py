"""The retrieval server and its wire format."""
