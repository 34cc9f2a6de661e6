"""The hypervisor's modules, and whole systems of fake tenders, devices and servers: no KVM needed."""
