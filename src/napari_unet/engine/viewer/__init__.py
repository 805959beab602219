"""The viewer's side of the engine: starting it, here or over ssh, sending jobs, receiving events."""
