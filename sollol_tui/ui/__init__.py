"""The terminal application, and all that imports textual. It asks the client, never a host."""
