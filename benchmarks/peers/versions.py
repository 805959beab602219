"""Say which peers an environment has; fails where one cannot be imported."""

from __future__ import annotations

import importlib
import sys
from importlib.metadata import version

MODULES = {"scikit-learn": "sklearn.ensemble", "stardist": "stardist.models", "cellpose": "cellpose.models"}

if __name__ == "__main__":
    for package, module in MODULES.items():
        importlib.import_module(module)
        print(package, version(package))
    print(f"Python of this environment: {sys.executable}")
