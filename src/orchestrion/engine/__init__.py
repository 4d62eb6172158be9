"""The engine: one metered ask, one loop that performs a step, workflows and batches over it."""
