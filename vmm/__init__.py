"""Machine model, policy and tools around the hypervisor: tenders, devices, manifests, launching, the CLI."""
