"""Widgets that several docks use: forms, selectors, plots, tabs."""
