"""A model's answer as it comes: what may be let out of it, and when it must stop."""
