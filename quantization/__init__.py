"""Recipes that make a float graph smaller and faster, each with the reason for what it leaves in float."""
