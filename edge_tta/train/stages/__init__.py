"""The stages of training, one file each: what a step computes, on top of the common loop."""
