"""Device support: compilation cache, mesh and groups, coordination of processes, and the machine."""
