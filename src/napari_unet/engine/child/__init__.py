"""The engine's process: receives jobs, runs them one at a time, streams their events."""
