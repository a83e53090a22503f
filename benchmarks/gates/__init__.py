"""All targets of the design in one table, from recorded measurements."""
