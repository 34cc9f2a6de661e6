"""The hypervisor of one system: memory, channels, grants, DMA windows, policy, evidence. Mechanism only."""
