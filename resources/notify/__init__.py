"""Ways to reach people, and the book of what was told."""
