"""One module a revision, run in their order."""
