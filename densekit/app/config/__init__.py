"""From the words of a command line to one resolved configuration."""
