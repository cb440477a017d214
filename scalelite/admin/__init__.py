"""Administration: one table of commands, and what runs them. Front-ends only parse words and hand in a console."""
