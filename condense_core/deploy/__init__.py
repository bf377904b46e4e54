"""Condensed networks: physically smaller, with equal outputs, certified, planned, exported and saved."""
