"""From a plan to C that people can read, and the project around it."""
