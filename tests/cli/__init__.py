"""The command line: arguments, exit statuses, output, and what is left when something dies."""
