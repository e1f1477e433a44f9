"""Reads and writes the Kubernetes side of a cluster through `kubernetes.aio`."""

from bot.adapters.kubernetes.reader import KubernetesApiReader
from bot.adapters.kubernetes.writer import KubernetesApiWriter

__all__ = ["KubernetesApiReader", "KubernetesApiWriter"]
