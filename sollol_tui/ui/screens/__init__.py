"""What fills the terminal: one module per screen, its layout and colours in the `.tcss` beside it."""
