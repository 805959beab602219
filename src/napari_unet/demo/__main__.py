"""Open napari with the layers of a demo: ``python -m napari_unet.demo FOLDER``."""

import sys

from .viewer import main

if __name__ == "__main__":
    sys.exit(main())
