"""What the docks know of napari's layers: reading them, annotations, previews, results, review marks."""
