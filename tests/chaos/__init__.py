"""Several bots on one PostgreSQL, repairs by the thousand, and a nemesis that freezes, kills and restarts: I1 to I7 hold, and nothing is applied twice.

`python -m tests.chaos --operations 200 --replicas 2 --seed 1`
"""
