"""What all docks share: filling in turns, the engine's lifetime, remembered state, preferences."""
