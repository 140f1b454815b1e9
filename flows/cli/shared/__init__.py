"""What all commands share: their options, how they run a flow, and how they print."""
