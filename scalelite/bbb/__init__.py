"""The BigBlueButton protocol: checksums, queries, XML, errors, one call to one server. Knows nothing of balancing."""
