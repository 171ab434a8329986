"""Foreign models to graphs: each format is one module with `read(path, ...) -> Imported`."""
