"""Rendered scenes, for quick starts and tests: drawn on request, stored nowhere."""
