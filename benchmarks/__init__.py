"""Measurements that take machines and hours; not part of the wheel."""
