"""What runs outside the main thread: the engine, threads, the command line in a process of its own."""
