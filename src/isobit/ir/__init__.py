"""The immutable graph, its text form, structural verification and the `.isobit` file."""
