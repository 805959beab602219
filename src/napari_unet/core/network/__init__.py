"""The U-Net, the device it runs on, and a model as it is saved: weights, card, provenance."""
