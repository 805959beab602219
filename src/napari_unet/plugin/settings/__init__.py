"""Preferences and keyboard shortcuts."""
