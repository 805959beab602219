"""Turn the network's outputs into separate cells, block by block: elevation, watershed, cleanup, stitching."""
