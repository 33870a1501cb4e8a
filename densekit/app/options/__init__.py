"""Options of commands: `table` parses them, `shared` has common ones, `help` formats them."""
