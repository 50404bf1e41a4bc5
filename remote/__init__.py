"""What runs on a worker: the agent, its monitor, the trainer. Imports nothing of the coordinator's package."""
