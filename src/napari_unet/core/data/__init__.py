"""Arrays, tiles, blocks, annotations, rescaling and the weight map: what every other room of core stands on."""
