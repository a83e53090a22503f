"""Every way to few steps on one start, one budget and one evaluation: ``docs/reports/acceleration.md``."""
