"""The HTML report of studies."""
