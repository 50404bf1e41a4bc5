"""A job's life: planner, state, launch, supervisor, results. Knows many hosts, no terminal."""
