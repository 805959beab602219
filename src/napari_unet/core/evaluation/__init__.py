"""Compare labels with ground truth and measure cells: AP, SEG, F1, region metrics, tables of cells."""
