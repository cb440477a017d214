"""The HTTP edge: routes, admission, answers. What is behind it lives in `cluster`."""
