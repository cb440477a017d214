"""The steps from any database that the program knows to its present tables; run by `recordings.upgrade`.

A revision that has been released is never changed. A new one changes `recordings.tables` as well, and the names in
`recordings.examination`; the tests compare them all. Each must be able to begin again after it was broken off, and must
lock no table of Scalelite's against readers or writers.
"""
