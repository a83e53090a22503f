"""Records of ``edge-tta bench`` as tables and pictures."""
