"""Everything that touches the outside, one folder per system. Only here and in the lab do client libraries appear."""
