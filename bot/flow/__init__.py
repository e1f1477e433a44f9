"""One file per phase, in reading order: intake, diagnosis, approval, execution, audit. Each reads its record by id and writes only its own kind."""
