"""Train a network on painted cells: plan, sampling, augmentation, loss, the loop, validation, calibration."""
