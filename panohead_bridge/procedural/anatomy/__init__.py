"""The parts of a procedural head: their solids, how they join, and their colours."""
