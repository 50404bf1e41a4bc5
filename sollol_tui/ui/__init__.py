"""The terminal application: the only package that imports textual. Asks the client, never a host."""
