"""Images of identities: faces, their pairs, and the open-set protocol."""
