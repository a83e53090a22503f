"""Training: data, objectives over the modules of `edge_tta.model`, and the loop that runs recipes."""
