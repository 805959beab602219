"""The floor that shows: napari, qtpy and magicgui; no torch. Its doors are the classes in ``docks``."""
