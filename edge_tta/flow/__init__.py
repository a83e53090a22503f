"""Flows: paths between noise and data, time samplers, objectives (one file a method) and samplers."""
