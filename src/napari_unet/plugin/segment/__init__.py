"""The Segment and Many files docks: segment planes, stacks, stores and folders."""
