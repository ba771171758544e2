"""What people see of a run while it goes on: its events folded into a picture, and the displays that show it."""
