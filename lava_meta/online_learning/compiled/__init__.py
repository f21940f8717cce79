"""Compiled forms of on-line learning, each equal to its reference implementation."""
