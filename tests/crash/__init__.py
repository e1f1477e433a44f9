"""The crash harness: kills the bot at every point that an action passes, starts it again, and counts at the target what became of it.

`python -m tests.crash` runs the matrix and prints a report; the tests here run a sample of it. In reading order: `scene`, `scenes_*` (one for every
kind of action), `proxy` (counts and loses answers), `child` (the executor in a process of its own), `trial` (one run), `oracle` (I1 to I7), `matrix`
(which runs there are, and the report).
"""
