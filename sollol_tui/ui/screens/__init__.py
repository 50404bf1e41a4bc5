"""What fills the terminal: a module per screen, layout and colours in the `.tcss` beside it."""
