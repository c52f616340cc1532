"""The rules of the house that no compiler checks. Each module holds one kind of rule."""
