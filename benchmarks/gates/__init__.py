"""All targets of the design on one page, from recorded measurements."""
