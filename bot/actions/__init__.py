"""Every change to the world, one file each; nothing else in the project writes to NATS or Kubernetes.

A module of this package either holds one action and ends in `ACTION`, or composes several into stages and says which kinds in `COMPOSES`;
`bot.registry` finds both by scanning. Modules with a leading underscore are shared pieces of the actions.
"""
