"""Measurements of whole conversations, in virtual time."""
