"""Device support: compilation cache, mesh and groups, coordination of processes, the machine."""
