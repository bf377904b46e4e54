"""Widgets that explore a run store in a notebook."""
