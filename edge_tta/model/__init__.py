"""Torch modules of every stage, and their presets."""
