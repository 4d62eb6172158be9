"""Other people's logs and data as outcome records: one module for each format, and one that makes records of what they read."""
