"""natsmedic: diagnoses NATS and JetStream on Kubernetes, proposes the exact repair, and applies it only when approved."""
