"""One training run: its folder, its processes, its initial weights and how it resumes."""
