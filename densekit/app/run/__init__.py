"""One training run: its folder, its processes, what it starts from and what it resumes."""
