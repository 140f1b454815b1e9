"""What people look at: two runs compared, contact sheets of stages, and whether a machine is ready."""
