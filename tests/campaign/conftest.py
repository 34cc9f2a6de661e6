"""VMs of a few instructions each: the zygote of the tests of tenders."""

from tests.tender.conftest import descriptors, system, zygote

__all__ = ["descriptors", "system", "zygote"]
