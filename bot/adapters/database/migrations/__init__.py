"""The revisions of the tables, oldest first: one file each in `versions`, run by Alembic (`bot/adapters/database/revisions.py`).

A new revision is the change of `rows.py` and one file beside the last one, as short as `versions/0002_replicas.py` is. The first line of its docstring is what `natsmedic db` shows. `op` is an argument: Alembic's own `alembic.op` is one per process, and two databases may be
upgraded at once. tests/integration/test_migrations.py holds each revision to the rules, there and back, with data, on both databases, and all of them
together to `rows.py`.

The rules:

- A revision **expands** or **contracts**. To expand is to add what a program that knows nothing of it works beside: tables, columns that may be null or have
  a default, indexes that are not unique (or of a new table). All else contracts: it comes in a later release than the program that no longer needs what goes.
- Expanding runs beside bots that serve. Contracting, and each way back, is refused while one serves, and keeps one that only seemed dead from writing again.
- A program starts with the newest revision that it knows and with no other. What runs already goes on beside a newer one.
- No revision touches `audit`, its rows or its triggers: 0001 makes them, and has no way back.
- A revision uses what this folder holds, not `rows.py`, which moves on.
"""
