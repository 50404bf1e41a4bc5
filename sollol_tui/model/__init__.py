"""What things are: inventory, job spec, plan, events, states, errors. Pure: no I/O, no clock."""
