"""The parts of a screen. Data comes down as a snapshot, intent goes up as a message."""
