"""One file per runbook; each ends in one record named `RUNBOOK` and is found by `bot.registry`."""
