"""The database: one writer with group commit, migrations, and SQL in .sql files by name."""
