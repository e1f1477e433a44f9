"""What people do about pods that do not run, configurations that are not loaded, and storage that is wrong: exact commands. Guidance only. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from bot.model import Finding
from bot.runbook import Draft
from runbooks._deploy_settings import manifest, probe_lines
from runbooks._deploy_target import AGAIN, HEALTHY, Target, look_into, plain

KEEP_CLAIMS = "Delete no claim to get a pod going: it holds the server's streams."


def pods(target: Target, found: Sequence[Finding]) -> Draft:
    # The server in a pod may have another name, so not the finding's subject.
    named = next((str(f.evidence["pod"]) for f in found if f.evidence.get("pod")), None)
    pod = shlex.quote(named) if named else "<pod>"
    return look_into(
        found,
        "Find out why pods do not run",
        f"See all of them: kubectl get pods {target.where} -o wide",
        f"Events and how containers ended: kubectl describe pod {pod} {target.where}",
        f"What the server said before it ended: kubectl logs {pod} -c {shlex.quote(target.container)} --previous {target.where}",
        "OOMKilled: raise the memory limit, set GOMEMLIMIT to about 80 % of it, and see what JetStream may keep in memory.",
        "No node found: free CPU and memory, or uncordon nodes; a volume of one node keeps its pod on it.",
        "An image that can't be pulled: go back to the tag that the other pods run.",
        AGAIN,
        cautions=(KEEP_CLAIMS,),
    )


def nodes(target: Target, found: Sequence[Finding]) -> Draft:
    return look_into(
        found,
        "Bring the nodes of the pods in order",
        f"See which pods they carry: kubectl get pods {target.where} -o wide; kubectl describe node <node>",
        "A node that is cordoned for work: uncordon it afterwards: kubectl uncordon <node>",
        "A node that is gone for good: its pod with a volume of that node needs a new volume; its streams with replicas are copied again, those without are lost.",
        AGAIN,
    )


def kills(target: Target, found: Sequence[Finding]) -> Draft:
    kind = "startup" if all(f.evidence.get("probe") == "startup" for f in found) else "liveness"
    return target.roll(
        found,
        f"Keep the {kind} probe from killing servers that catch up",
        *probe_lines(target, kind),
        "Find the streams and consumers that are not current meanwhile: natsmedic diagnose --runbook STREAM_GROUPS --runbook STUCK_CONSUMER",
        f"Follow it: kubectl rollout status {target.object} {target.where}",
        cautions=(
            "A pod in CrashLoopBackOff that has the old probe may hold up the rollout: delete that one pod once the new template is there.",
        ),
    )


def rollout(target: Target, found: Sequence[Finding]) -> Draft:
    held = next((str(f.evidence["held up by"]) for f in found if f.evidence.get("held up by")), None)
    lines = [
        f"See how far it is: kubectl rollout status {target.object} {target.where} --watch=false",
        f"See the templates: kubectl rollout history {target.object} {target.where}",
    ]
    if held is None:
        lines += [
            "Pods kept back by a partition or OnDelete get the new template when they are deleted, one at a time.",
            HEALTHY,
        ]
    else:
        pod = shlex.quote(held)
        lines += [
            f"See why it is not ready: kubectl describe pod {pod} {target.where}",
            f"Back to the template before: kubectl rollout undo {target.object} {target.where}",
            f"Then free the pod that hangs, for the controller does not replace it by itself: kubectl delete pod {pod} {target.where}",
        ]
    return target.change(found, "Bring the rollout to its end", *lines)


def config(target: Target, found: Sequence[Finding]) -> Draft:
    title = "Make the servers load the present nats.conf"
    if any(f.evidence.get("live") is False for f in found):
        return look_into(
            found,
            title,
            "The file is mounted by subPath and never changes in a running pod: the pods must be rolled, one at a time.",
            HEALTHY,
            f"kubectl rollout restart {target.object} {target.where}",
            AGAIN,
        )
    return look_into(
        found,
        title,
        "Check the file first: nats-server -t -c nats.conf",
        "Reload one server after another with a user of the system account: nats server config reload <id>",
        "Proof: config_load_time of VARZ is after the change, and from 2.11 on config_digest is another one than before.",
        "*config reload not supported* in a server's log means that the old configuration stays: that setting needs a restart of the pods.",
        AGAIN,
    )


def routes(target: Target, found: Sequence[Finding]) -> Draft:
    members: Sequence[str] = next((f.evidence["members"] for f in found if f.evidence.get("members")), ())
    listed = ", ".join(f'"nats-route://{plain(name)}:6222"' for name in members)
    return look_into(
        found,
        "Name every pod in cluster.routes and reload",
        f"In nats.conf set  cluster {{ routes: [{listed}] }}  and keep the other keys of the block, ports and passwords among them.",
        *target.owner(),
        "Official chart: it writes this list itself; look for config.cluster.merge or patch that replaces routes, and for config.cluster.replicas.",
        "Bitnami chart: from 8.5.4 on it writes one route for each pod; before, it writes one name. Its file is mounted by subPath: roll the pods instead of a reload.",
        f"Where the file is in a ConfigMap: kubectl edit configmap <name> {target.where}; after 1 to 2 minutes the pods have it.",
        "Reload one server after another: nats server config reload <id>. Nothing is restarted, no client is disconnected.",
        "Then diagnose again: natsmedic diagnose --runbook ROUTE_MESH --probe-delivery",
    )


def service(target: Target, found: Sequence[Finding]) -> Draft:
    name = target.workload.service_name if target.workload else ""
    headless = shlex.quote(f"service/{name}") if name else "service/<headless>"
    body = shlex.quote('{"spec":{"publishNotReadyAddresses":true}}')
    return target.change(
        found,
        "Give the pods names before they are ready",
        f"See it: kubectl get {headless} {target.where} -o yaml",
        "Bitnami chart from 8.4.9: service: {headless: {publishNotReadyAddresses: true}}",
        f"Without a chart: kubectl patch {headless} {target.where} -p {body} --dry-run=server   # then without --dry-run",
        "clusterIP can't be changed: a Service that is not headless must be created anew as one, with clusterIP None and the pods' labels as selector.",
    )


def volumes(target: Target, found: Sequence[Finding]) -> Draft:
    return target.change(
        found,
        "Make the volumes fit what JetStream may write",
        f"See them: kubectl get pvc {target.where}; kubectl describe pvc <claim> {target.where}",
        "A claim that is not bound: its class must exist and have room, in the zone of the node that the pod wants.",
        "Too small: where the class allows expansion, raise spec.resources.requests.storage of each claim; or lower max_file_store, which needs a restart.",
        "volumeClaimTemplates can't be changed: a later pod gets the old size until the StatefulSet is created anew (--cascade=orphan).",
        cautions=(KEEP_CLAIMS,),
    )


def storage(target: Target, found: Sequence[Finding]) -> Draft:
    return target.change(
        found,
        "Move JetStream to disks, one server at a time",
        "Back every stream up, and those with one replica first of all: nats account backup <directory>",
        "Give streams with one replica three, one at a time, while their holder is alive (2.11.4 or later).",
        f"Keep the manifest: {manifest(target)}",
        f"kubectl delete {target.object} {target.where} --cascade=orphan   # the pods go on running",
        "Create it anew with volumeClaimTemplates of a class for block storage (SSD), same names otherwise.",
        f"One pod after another: kubectl delete pod <pod> {target.where}, with its old claim; the server copies its streams from the others.",
        HEALTHY,
        cautions=(
            "Never automatic: a stream with one replica exists once, and is lost with its claim.",
            "Two servers away at once end the quorum of every group of three, and the copying with it.",
        ),
    )
