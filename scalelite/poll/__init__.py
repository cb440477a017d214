"""The poller: one instance of all asks every server what it runs, and keeps the records true."""
