"""Files that the package ships: `demo/` is the demonstration model. No code lives here."""
