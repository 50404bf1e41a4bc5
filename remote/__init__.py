"""What runs on a worker: the agent and the trainer. Imports nothing of the coordinator's."""
