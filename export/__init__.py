"""From a checkpoint to a bundle: graphs for a runtime, checked against the modules they come from."""
