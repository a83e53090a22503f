"""Other systems' architectures with random weights, timed beside ours in one run."""
