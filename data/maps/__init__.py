"""Semantic maps: reading files of every kind, and what to say about them."""
