"""Real devices behind a real IOMMU, in the test bed; and what is said where there are none."""
