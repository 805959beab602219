"""The Models dock, and the list of models that every dock offers."""
