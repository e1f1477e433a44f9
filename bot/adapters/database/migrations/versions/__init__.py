"""One file per revision. Alembic loads them by their place; nothing imports them."""
