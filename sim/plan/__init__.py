"""Plans: what runs where, what lies where, and what must be moved, before it becomes tasks."""
