"""Interactive cell segmentation with a U-Net."""
