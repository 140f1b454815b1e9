"""A run: its folder, session, worker processes and task-run shards, shared by all flows."""
