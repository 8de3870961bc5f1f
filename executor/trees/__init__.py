"""Trees, and what a change is handed in as: directories, patches, archives."""
