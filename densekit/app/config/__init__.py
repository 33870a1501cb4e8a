"""From the arguments of a command line to one resolved configuration."""
