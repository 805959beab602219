"""What crosses between viewer and engine: messages and their compression."""
