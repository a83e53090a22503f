"""What bundles hold, as one document."""
