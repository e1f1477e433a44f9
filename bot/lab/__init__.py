"""Real nats-servers, stand-ins for Slack and Kubernetes, and drills that break them; the demo and tests run on it."""
