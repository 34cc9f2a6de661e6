"""A pytest plugin that plants a defect: vCPUs are made without XCR0. A KVM that runs CPL3 natively without
any CPU virtualization does not mind (its guests have the host's XCR0); on a stock one there is no AVX then.
"""

from __future__ import annotations

from vmm.tender.kvm import Kvm

_probe = Kvm._probe_vcpu


def _forgetful(self: Kvm) -> None:
    _probe(self)
    self.host.xcr0 = 0


Kvm._probe_vcpu = _forgetful  # type: ignore[method-assign]
