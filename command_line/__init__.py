"""What makes a command of a function: its flags, signals that stop it, safe output, progress, one line for a mistake."""
