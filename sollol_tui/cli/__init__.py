"""The command line: the only place that prints and that sets exit codes. Rules live below it."""
