"""Options of commands: `table` parses them, `shared` has those of several, `help` prints them."""
