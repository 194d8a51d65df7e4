"""The trainer: everything that knows the private names of TRL."""
