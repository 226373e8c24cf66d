"""Figures from records and tables."""
