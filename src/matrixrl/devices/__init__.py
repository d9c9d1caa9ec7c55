"""Device support: compilation cache, mesh, processes, and the description of the machine."""
