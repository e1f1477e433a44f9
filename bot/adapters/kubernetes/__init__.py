"""Reads the Kubernetes side of a cluster through `kubernetes.aio`."""

from bot.adapters.kubernetes.reader import KubernetesApiReader

__all__ = ["KubernetesApiReader"]
